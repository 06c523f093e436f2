"""Contrast between the images and texts of a global batch.

Shape letters: b pairs of this process, R processes, E width of the joint space. Rows are this process's, columns
everybody's: each process computes b of the R·b rows, and the mean over processes (which data parallelism takes of
gradients) is the loss of the global batch.
Source: Radford et al. 2021 (arXiv 2103.00020); Zhai et al. 2023 (arXiv 2303.15343); InternVL stage-2 code.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch import distributed as dist
from torch.utils.checkpoint import checkpoint

from internvl_mm.registry import MODELS
from internvl_mm.utils.checks import check_counts, check_shares
from internvl_mm.utils.errors import DataError

Negatives = Literal['all', 'own']
IGNORED = -100  # target of a row that does not count


class _Gather(torch.autograd.Function):
    """Concatenate over processes; backward sums what every process wants of this process's part."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        """Rows of all processes, in order of rank."""
        parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, own.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """Gradient of the own rows, summed over what all processes did with them."""
        # A copy: other parts of the graph may hold the same tensor.
        grad = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad)
        return grad.chunk(dist.get_world_size())[dist.get_rank()]


def _many() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def gather(own: Tensor) -> Tensor:
    """``[b, ...]`` of every process as ``[R·b, ...]``, with gradients to all of them where it has any.

    Raises:
        DataError: The processes have batches of different sizes.
    """
    if not _many():
        return own
    # Largest b and largest -b in one message: the largest and the smallest batch.
    sizes = own.new_tensor([len(own), -len(own)], dtype=torch.long)
    dist.all_reduce(sizes, op=dist.ReduceOp.MAX)
    if sizes[0] != -sizes[1]:
        raise DataError(
            f'the processes have between {-int(sizes[1])} and {int(sizes[0])} pairs in this batch: contrast needs as '
            'many on each; set train_dataloader.drop_last=True'
        )
    if own.is_floating_point():
        return _Gather.apply(own)
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, own.contiguous())
    return torch.cat(parts)


def own_rows(count: int, device: torch.device) -> Tensor:
    """Columns of this process's own pairs among all, ``[count]``."""
    # gather puts processes one after the other, each with as many rows.
    first = dist.get_rank() * count if _many() else 0
    return torch.arange(first, first + count, device=device)


def full_product(rows: Tensor, columns: Tensor) -> Tensor:
    """``rows @ columns.T`` in fp32, also where the run computes in half precision.

    Autocast takes no notice of a cast: in bf16 cosines times 100 would lie a half apart, and most of a batch be tied.

    Args:
        rows: ``[n, E]``.
        columns: ``[C, E]``.
    """
    with torch.autocast(rows.device.type, enabled=False):
        return rows.float() @ columns.float().t()


def cross_entropy_in_chunks(
    rows: Tensor, columns: Tensor, target: Tensor, *, chunk: int, smoothing: float = 0.0
) -> Tensor:
    """Mean cross entropy of ``rows @ columns.T`` without ever holding all of it, in fp32.

    Scores of a chunk are computed again in the backward pass: memory is ``chunk x columns`` instead of
    ``rows x columns``, at a third more time.

    Args:
        rows: ``[b, E]``, already multiplied by the temperature.
        columns: ``[C, E]``.
        target: Right columns ``[b]``, :data:`IGNORED` for rows that do not count; or probabilities ``[b, C]``.
        chunk: Rows at a time.
        smoothing: Label smoothing; for indices only.
    """
    soft = target.is_floating_point()

    def summed(part: Tensor, wanted: Tensor) -> Tensor:
        scores = full_product(part, columns)  # [c, C]
        return F.cross_entropy(scores, wanted, label_smoothing=0.0 if soft else smoothing, reduction='sum')

    total = rows.new_zeros((), dtype=torch.float32)
    for start in range(0, len(rows), chunk):
        piece = slice(start, start + chunk)
        # A single chunk is held anyway; computing it twice would save nothing.
        if len(rows) <= chunk:
            total = total + summed(rows[piece], target[piece])
        else:
            total = total + checkpoint(summed, rows[piece], target[piece], use_reentrant=False)
    counted = len(rows) if soft else (target != IGNORED).sum()
    # A batch in which nothing counts has loss 0, not 0 / 0.
    return total / counted.clamp(min=1) if isinstance(counted, Tensor) else total / counted


def info_nce(
    images: Tensor,
    texts: Tensor,
    scale: Tensor,
    *,
    negatives: Negatives = 'all',
    chunk: int = 2048,
    smoothing: float = 0.0,
    ids: Tensor | None = None,
    counts: Tensor | None = None,
) -> Tensor:
    """Symmetric InfoNCE of paired embeddings.

    Args:
        images: ``[b, E]``, normalised here.
        texts: ``[b, E]``, normalised here.
        scale: Inverse temperature.
        negatives: ``'all'`` contrasts with every process's pairs, ``'own'`` with this process's alone.
        chunk: Rows of similarities held at a time.
        smoothing: Label smoothing.
        ids: Number of the image of each pair ``[b]``: all pairs of one image are right for each other (targets are
            spread evenly over them) instead of the pair alone.
        counts: Which rows count, bool ``[b]``; all when left out.
    """
    images, texts = F.normalize(images.float(), dim=-1), F.normalize(texts.float(), dim=-1)
    share = gather if negatives == 'all' else (lambda own: own)
    if ids is not None:
        # [b, R·b]; each row has at least its own pair, so no sum is 0.
        same = (ids[:, None] == share(ids)[None, :]).float()
        target = same / same.sum(dim=1, keepdim=True)
    else:
        target = (
            own_rows(len(images), images.device)
            if negatives == 'all'
            else torch.arange(len(images), device=images.device)
        )
        # Left out as rows alone: as columns they are still wrong answers of the others, as published.
        if counts is not None:
            target = target.masked_fill(~counts, IGNORED)
    options: dict[str, Any] = dict(chunk=chunk, smoothing=smoothing)
    # The scale goes on [b, E] embeddings instead of [b, R·b] scores.
    to_text = cross_entropy_in_chunks(scale * images, share(texts), target, **options)
    to_image = cross_entropy_in_chunks(scale * texts, share(images), target, **options)
    return (to_text + to_image) / 2


class ContrastiveLoss(nn.Module, ABC):
    """Paired embeddings ``[b, E]`` of images and texts to a number; owns the learned temperature.

    Attributes:
        logit_scale: Logarithm of the inverse temperature.
    """

    logit_scale: nn.Parameter

    @abstractmethod
    def forward(self, images: Tensor, texts: Tensor, ids: Tensor | None = None) -> Tensor:
        """Loss of embeddings as the towers give them, row i of one belonging to row i of the other.

        Args:
            images: ``[b, E]``.
            texts: ``[b, E]``.
            ids: Numbers ``[b]`` that are equal for equal texts; not every loss looks at them.
        """


@MODELS.register_module()
class InfoNCELoss(ContrastiveLoss):
    """Each image has to find its text among all texts of the global batch, and each text its image.

    Args:
        temperature: Initial temperature.
        max_scale: Largest inverse temperature used; none as published by InternVL, 100 in CLIP.
        label_smoothing: Share of the target spread over all pairs.
        negatives: ``'all'`` processes' pairs (gradients reach every one of them), or this process's ``'own'``.
        chunk: Rows of similarities held at a time; bounds memory at large global batches.
        equal_texts: Whether pairs with equal texts are wrong for each other, as published, or right: better where few
            sentences describe many images.
    """

    def __init__(
        self,
        *,
        temperature: float = 0.07,
        max_scale: float | None = None,
        label_smoothing: float = 0.0,
        negatives: Negatives = 'all',
        chunk: int = 2048,
        equal_texts: Literal['wrong', 'right'] = 'wrong',
    ):
        super().__init__()
        check_counts(chunk=chunk)
        check_shares(label_smoothing=label_smoothing)
        # 1 / 0.07 as in CLIP; its logarithm is what is learned, so that it stays positive.
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / temperature)))
        self.max_scale = max_scale
        self.equal_texts = equal_texts
        self.options: dict[str, Any] = dict(negatives=negatives, chunk=chunk, smoothing=label_smoothing)

    def forward(self, images: Tensor, texts: Tensor, ids: Tensor | None = None) -> Tensor:
        """See :class:`ContrastiveLoss`."""
        scale = self.logit_scale.exp()
        if self.max_scale is not None:
            scale = scale.clamp(max=self.max_scale)
        shared = ids if self.equal_texts == 'right' else None
        return info_nce(images, texts, scale, **self.options, ids=shared)


@MODELS.register_module()
class SigmoidLoss(ContrastiveLoss):
    """Every image with every text of the global batch is a yes-or-no question; no softmax over the batch.

    Args:
        scale: Initial inverse temperature.
        bias: Initial bias; very negative, because almost all pairs are wrong.
        chunk: Rows of similarities held at a time.

    Source: Zhai et al. 2023, "Sigmoid loss for language image pre-training".
    """

    def __init__(self, *, scale: float = 10.0, bias: float = -10.0, chunk: int = 2048):
        super().__init__()
        check_counts(chunk=chunk)
        # As in the paper: almost all pairs are wrong, and with a bias of 0 their loss alone drives the first steps.
        self.logit_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.bias = nn.Parameter(torch.tensor(bias))
        self.chunk = chunk

    def forward(self, images: Tensor, texts: Tensor, ids: Tensor | None = None) -> Tensor:
        """See :class:`ContrastiveLoss`."""
        del ids
        images, texts = F.normalize(images.float(), dim=-1), F.normalize(texts.float(), dim=-1)
        columns, right = gather(texts), own_rows(len(images), images.device)
        scale = self.logit_scale.exp()

        def summed(rows: Tensor, target: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
            scores = full_product(scale * rows, columns) + bias
            # [c, R·b]: +1 for the own text, -1 for all others.
            sign = F.one_hot(target, len(columns)) * 2.0 - 1.0
            return -F.logsigmoid(sign * scores).sum()

        pieces = zip(images.split(self.chunk), right.split(self.chunk), strict=True)
        total = sum(
            checkpoint(summed, rows, target, scale, self.bias, use_reentrant=False) for rows, target in pieces
        )
        # Per image, not per question, as published: b of them, R·b questions each.
        return total / len(images)
