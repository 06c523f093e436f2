"""Non-maximum suppression: greedy, soft and by class.

Boxes are (x1, y1, x2, y2) in pixels. ``offset`` 1 counts the last pixel as part of the box, as VOC did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
import torchvision
from mmengine.utils import deprecated_api_warning
from torch import Tensor

from internvl_mm.utils.errors import ConfigError, did_you_mean

Array = TypeVar('Array', Tensor, np.ndarray)


@deprecated_api_warning({'iou_thr': 'iou_threshold'})
def nms(
    boxes: Array,
    scores: Array,
    iou_threshold: float,
    offset: int = 0,
    score_threshold: float = 0,
    max_num: int = -1,
) -> tuple[Array, Array]:
    """Keep the best box of every group that overlaps by more than ``iou_threshold``.

    Args:
        boxes: ``[N, 4]``, a tensor or an array; the results are of the same kind.
        scores: ``[N]``.
        iou_threshold: An overlap of exactly this much is kept.
        offset: 0 or 1 pixel added to widths and heights.
        score_threshold: When above 0, only boxes with a higher score take part.
        max_num: When above 0, at most so many boxes are kept.

    Returns:
        Boxes with scores ``[M, 5]``, best first, and their indices ``[M]``.
    """
    if isinstance(boxes, np.ndarray):
        tensors = torch.from_numpy(boxes), torch.as_tensor(scores)
        dets, indices = nms(*tensors, iou_threshold, offset, score_threshold, max_num)
        return dets.numpy(), indices.numpy()
    _check(boxes, scores, offset)
    candidates = torch.arange(len(scores), device=scores.device)
    if score_threshold > 0:
        candidates = candidates[scores > score_threshold]
    # torchvision knows no half types on CPU and no offset; a corner one pixel further is the same as a wider box.
    corners = boxes[candidates].float() if boxes.element_size() < 4 else boxes[candidates]
    corners = corners + corners.new_tensor([0, 0, offset, offset])
    kept = candidates[
        torchvision.ops.nms(corners, scores[candidates].to(corners.dtype), float(iou_threshold))
    ]
    kept = kept[:max_num] if max_num > 0 else kept
    return torch.cat([boxes[kept], scores[kept, None]], dim=1), kept


@deprecated_api_warning({'iou_thr': 'iou_threshold'})
def soft_nms(
    boxes: Array,
    scores: Array,
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    min_score: float = 1e-3,
    method: str = 'linear',
    offset: int = 0,
) -> tuple[Array, Array]:
    """Lower the scores of overlapping boxes instead of dropping them; runs on the CPU, as mmcv's does.

    Args:
        boxes: ``[N, 4]``, a tensor or an array; the results are of the same kind and on the same device.
        scores: ``[N]``.
        iou_threshold: Overlap from which ``'linear'`` multiplies by 1 - IoU and ``'naive'`` by 0.
        sigma: ``'gaussian'`` multiplies by exp(-IoU² / sigma), whatever the overlap.
        min_score: A box whose lowered score is smaller is dropped.
        method: ``'linear'``, ``'gaussian'`` or ``'naive'``.
        offset: 0 or 1 pixel added to widths and heights.

    Returns:
        Boxes with lowered scores ``[M, 5]``, best first, and their indices ``[M]``.

    Source: Bodla et al. 2017 (arXiv 1704.04503).
    """
    decays: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        'naive': lambda iou: np.where(iou >= iou_threshold, 0, 1),
        'linear': lambda iou: np.where(iou >= iou_threshold, 1 - iou, 1),
        'gaussian': lambda iou: np.exp(-(iou**2) / sigma),
    }
    if method not in decays:
        raise ConfigError(f'soft_nms method={method!r} is unknown: use one of {list(decays)}')
    if isinstance(boxes, np.ndarray):
        tensors = torch.from_numpy(boxes), torch.as_tensor(scores)
        dets, kept = soft_nms(*tensors, iou_threshold, sigma, min_score, method, offset)
        return dets.numpy(), kept.numpy()
    _check(boxes, scores, offset)
    # NumPy: a few operations on small arrays for every box kept.
    corners, plain = (array.detach().cpu().float().numpy() for array in (boxes, scores))
    softened = _soften(corners, plain, decays[method], min_score, offset)
    lowered, indices = (torch.from_numpy(array).to(boxes.device) for array in softened)
    return torch.cat([boxes.detach()[indices], lowered[:, None].to(boxes)], dim=1), indices


def _soften(
    boxes: np.ndarray,
    scores: np.ndarray,
    decay: Callable[[np.ndarray], np.ndarray],
    min_score: float,
    offset: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowered scores and the indices of the boxes kept, best first."""
    scores, left = scores.copy(), np.arange(len(scores))
    areas = (boxes[:, 2:] - boxes[:, :2] + offset).prod(axis=1)  # [N], in px²
    lowered, kept = [], []
    while len(left):
        best = left[scores[left].argmax()]  # of equal scores the first
        kept.append(best)
        lowered.append(scores[best])
        left = left[left != best]
        corners = np.minimum(boxes[left, 2:], boxes[best, 2:]) - np.maximum(boxes[left, :2], boxes[best, :2])
        # px² that the best box has in common with each that is left.
        shared = (corners + offset).clip(min=0).prod(axis=1)
        union = areas[left] + areas[best] - shared
        # Boxes without area overlap nothing.
        iou = np.divide(shared, union, out=np.zeros_like(shared), where=union != 0)
        scores[left] *= decay(iou)
        # As in mmcv, only boxes that are left are tested: the very first is kept whatever its score.
        left = left[scores[left] >= min_score]
    return np.array(lowered, dtype=scores.dtype), np.array(kept, dtype=np.int64)


def batched_nms(
    boxes: Tensor,
    scores: Tensor,
    idxs: Tensor,
    nms_cfg: Mapping[str, Any] | None,
    class_agnostic: bool = False,
) -> tuple[Tensor, Tensor]:
    """Suppress within each class (or level) alone.

    As mmcv's, except where that one fails: without boxes the result is empty; coordinates below 0 keep classes apart;
    ``class_agnostic`` holds for any number of boxes; ``max_num`` holds for every type.

    Args:
        boxes: ``[N, 4]``.
        scores: ``[N]``.
        idxs: Class of each box ``[N]``.
        nms_cfg: ``None`` only sorts. Else ``type`` (``'nms'``, ``'soft_nms'`` or a function like them; default
            ``'nms'``), ``class_agnostic``, ``max_num``, ``split_thr`` (from so many boxes on the classes are treated
            one after the other, which needs less memory; default 10000) and the arguments of the type.
        class_agnostic: Whether boxes of different classes suppress each other.

    Returns:
        Boxes with scores ``[M, 5]``, best first, and their indices ``[M]``.

    Raises:
        ConfigError: The type is unknown.
    """
    if nms_cfg is None:
        order = scores.argsort(descending=True)  # no suppression, but the order of one
        return torch.cat([boxes[order], scores[order, None]], dim=1), order
    settings = dict(nms_cfg)
    class_agnostic = settings.pop('class_agnostic', class_agnostic)
    suppress = _suppressor(settings.pop('type', 'nms'))
    split_thr, max_num = settings.pop('split_thr', 10000), settings.pop('max_num', -1)
    if class_agnostic or not len(boxes):
        found, kept = suppress(boxes, scores, **settings)
    elif len(boxes) < split_thr:
        # Every class is moved by more than the extent of all boxes: no two classes overlap any more. In fp32: the 80th
        # class of a picture of 1333 pixels goes to 106,640, where bf16 has every 512th number and fp16 none.
        exact = boxes.to(torch.promote_types(boxes.dtype, torch.float32))
        step = exact.max() - exact.min().clamp(max=0) + 1
        found, kept = suppress(exact + (idxs.to(exact) * step)[:, None], scores, **settings)
    else:
        # As mmcv does for many boxes: one overlap test of all would be quadratic in them.
        found, kept = _one_class_after_the_other(suppress, boxes, scores, idxs, settings)
    # Only the scores (lowered by soft_nms) are taken from there: the boxes may have been moved.
    kept_scores = found[:, -1]
    if max_num > 0:
        kept, kept_scores = kept[:max_num], kept_scores[:max_num]
    # Scores in the dtype they came in: together with fp32 boxes those of the suppressor have become fp32.
    return torch.cat([boxes[kept], kept_scores[:, None].to(scores.dtype)], dim=1), kept


def _one_class_after_the_other(
    suppress: Callable[..., tuple[Tensor, Tensor]],
    boxes: Tensor,
    scores: Tensor,
    idxs: Tensor,
    settings: dict[str, Any],
) -> tuple[Tensor, Tensor]:
    found, kept = [], []
    for name in idxs.unique():
        members = (idxs == name).nonzero()[:, 0]
        dets, chosen = suppress(boxes[members], scores[members], **settings)
        found.append(dets)
        kept.append(members[chosen])
    dets, indices = torch.cat(found), torch.cat(kept)
    # Of equal scores the first box comes first, as in one go.
    order = indices.argsort()
    order = order[dets[order, -1].argsort(descending=True, stable=True)]
    return dets[order], indices[order]


def _suppressor(kind: str | Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor]]:
    known: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {'nms': nms, 'soft_nms': soft_nms}
    if callable(kind):
        return kind
    if kind not in known:
        raise ConfigError(
            f"nms type={kind!r} is not among the operators of internvl_mm.ops: use 'nms' or 'soft_nms', or a "
            f'function like them.{did_you_mean(kind, known)}'
        )
    return known[kind]


def _check(boxes: Tensor, scores: Tensor, offset: int) -> None:
    if boxes.ndim != 2 or boxes.shape[1] != 4 or len(boxes) != len(scores):
        raise ValueError(f'boxes {list(boxes.shape)} with scores {list(scores.shape)}: give [N, 4] with [N]')
    if offset not in (0, 1):
        raise ValueError(f'offset={offset} is not possible: use 0 or 1')
