"""Suppression against loops over pairs of boxes, written from the definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchvision

from internvl_mm.ops import batched_nms, nms, soft_nms
from internvl_mm.utils.errors import ConfigError


def iou(first: list[float], second: list[float], offset: int = 0) -> float:
    width = max(0.0, min(first[2], second[2]) - max(first[0], second[0]) + offset)
    height = max(0.0, min(first[3], second[3]) - max(first[1], second[1]) + offset)
    areas = [(box[2] - box[0] + offset) * (box[3] - box[1] + offset) for box in (first, second)]
    union = sum(areas) - width * height
    return width * height / union if union else 0.0


def loop_nms(boxes: torch.Tensor, scores: torch.Tensor, threshold: float, offset: int = 0) -> list[int]:
    kept: list[int] = []
    for index in scores.argsort(descending=True, stable=True).tolist():
        if all(iou(boxes[index].tolist(), boxes[other].tolist(), offset) <= threshold for other in kept):
            kept.append(index)
    return kept


def loop_soft_nms(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    *,
    method: str,
    threshold: float,
    sigma: float,
    low: float,
    offset: int,
) -> list[tuple[int, float]]:
    left = dict(enumerate(scores.tolist()))
    kept = []
    while left:
        best = max(left, key=left.__getitem__)
        kept.append((best, left.pop(best)))
        for other in list(left):
            overlap = iou(boxes[best].tolist(), boxes[other].tolist(), offset)
            if method == 'gaussian':
                left[other] *= math.exp(-(overlap**2) / sigma)
            elif overlap >= threshold:
                left[other] *= 1 - overlap if method == 'linear' else 0
            if left[other] < low:
                del left[other]
    return kept


def some_boxes(count: int = 60, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * 40
    sizes = torch.rand(count, 2, generator=generator) * 30 + 1
    return torch.cat([corners, corners + sizes], dim=1), torch.rand(count, generator=generator)


@pytest.mark.parametrize('threshold', [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize('offset', [0, 1])
def test_nms_is_the_loop(threshold: float, offset: int) -> None:
    boxes, scores = some_boxes()
    dets, kept = nms(boxes, scores, threshold, offset=offset)
    assert kept.tolist() == loop_nms(boxes, scores, threshold, offset)
    assert torch.equal(dets, torch.cat([boxes[kept], scores[kept, None]], dim=1))
    if not offset:
        assert torch.equal(kept, torchvision.ops.nms(boxes, scores, threshold))


def test_nms_options() -> None:
    boxes, scores = some_boxes()
    all_kept = loop_nms(boxes, scores, 0.5)
    assert nms(boxes, scores, iou_threshold=0.5, max_num=3)[1].tolist() == all_kept[:3]
    high = nms(boxes, scores, 0.5, score_threshold=0.6)[1].tolist()
    assert high == [index for index in all_kept if scores[index] > 0.6]
    # The old name of the threshold is still found in published configs.
    with pytest.warns(DeprecationWarning, match='iou_thr'):
        assert nms(boxes, scores, iou_thr=0.5)[1].tolist() == all_kept


def test_overlap_of_exactly_the_threshold_is_kept() -> None:
    # intersection 1, union 2
    boxes, scores = torch.tensor([[0.0, 0, 2, 1], [0, 0, 1, 1]]), torch.tensor([0.9, 0.8])
    assert len(nms(boxes, scores, 0.5)[1]) == 2
    assert len(nms(boxes, scores, 0.49)[1]) == 1


def test_arrays_stay_arrays_and_half_types_stay_half() -> None:
    boxes, scores = some_boxes()
    dets, kept = nms(boxes.numpy(), scores.numpy(), 0.5)
    assert isinstance(dets, np.ndarray) and kept.tolist() == loop_nms(boxes, scores, 0.5)
    soft, order = soft_nms(boxes.numpy(), scores.numpy(), 0.5)
    assert isinstance(soft, np.ndarray) and soft.dtype == np.float32 and order.dtype == np.int64
    half = boxes.round().bfloat16(), scores.bfloat16()
    dets, kept = nms(*half, 0.5)
    assert dets.dtype == torch.bfloat16
    assert kept.tolist() == loop_nms(half[0].float(), half[1].float(), 0.5)


@pytest.mark.parametrize('method', ['linear', 'gaussian', 'naive'])
@pytest.mark.parametrize('offset', [0, 1])
def test_soft_nms_is_the_loop(method: str, offset: int) -> None:
    boxes, scores = some_boxes(40)
    dets, kept = soft_nms(boxes, scores, 0.3, sigma=0.4, min_score=0.05, method=method, offset=offset)
    wanted = loop_soft_nms(boxes, scores, method=method, threshold=0.3, sigma=0.4, low=0.05, offset=offset)
    assert kept.tolist() == [index for index, _ in wanted]
    torch.testing.assert_close(dets[:, 4], torch.tensor([score for _, score in wanted]))
    assert torch.equal(dets[:, :4], boxes[kept])


def test_naive_soft_nms_is_nms() -> None:
    boxes, scores = some_boxes()
    # 'naive' drops an overlap of exactly the threshold, which these boxes have not.
    assert torch.equal(soft_nms(boxes, scores, 0.5, method='naive')[1][:10], nms(boxes, scores, 0.5)[1][:10])


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_boxes_of_a_late_class_suppress_each_other(dtype: torch.dtype) -> None:
    # Moved by 79 times the picture, boxes of half types would all be one point (bf16) or infinitely far (fp16).
    boxes = torch.tensor(
        [[1200.0, 704, 1248, 752], [1208, 712, 1248, 752], [200, 300, 248, 352]], dtype=dtype
    )
    scores, classes = torch.tensor([0.9, 0.8, 0.7], dtype=dtype), torch.full((3,), 79)
    dets, kept = batched_nms(boxes, scores, classes, dict(type='nms', iou_threshold=0.5))
    assert kept.tolist() == [0, 2] and dets.dtype == dtype
    assert torch.equal(dets[:, :4], boxes[kept])


@pytest.mark.parametrize('kind', ['nms', 'soft_nms'])
def test_classes_do_not_suppress_each_other(kind: str) -> None:
    boxes, scores = some_boxes(80)
    boxes -= 35  # mmcv's own way of keeping classes apart fails below 0
    labels = torch.arange(80) % 3
    settings = dict(type=kind, iou_threshold=0.4)
    dets, kept = batched_nms(boxes, scores, labels, settings)
    wanted = []
    for label in range(3):
        members = (labels == label).nonzero()[:, 0]
        alone, chosen = dict(nms=nms, soft_nms=soft_nms)[kind](boxes[members], scores[members], 0.4)
        wanted += [
            (round(score, 5), members[index].item()) for score, index in zip(alone[:, 4].tolist(), chosen)
        ]
    assert [(round(score, 5), index) for score, index in zip(dets[:, 4].tolist(), kept.tolist())] == sorted(
        wanted, reverse=True
    )
    split = batched_nms(boxes, scores, labels, settings | dict(split_thr=80))
    assert torch.equal(split[1], kept)
    torch.testing.assert_close(split[0], dets)
    assert settings == dict(type=kind, iou_threshold=0.4)


@pytest.mark.parametrize('split_thr', [10, 10000])
def test_class_agnostic_and_max_num_hold_for_any_number_of_boxes(split_thr: int) -> None:
    boxes, scores = some_boxes()
    labels = torch.arange(60) % 7
    settings = dict(iou_threshold=0.4, split_thr=split_thr)
    wanted = loop_nms(boxes, scores, 0.4)
    assert batched_nms(boxes, scores, labels, settings, class_agnostic=True)[1].tolist() == wanted
    assert batched_nms(boxes, scores, labels, settings | dict(class_agnostic=True))[1].tolist() == wanted
    everything = batched_nms(boxes, scores, labels, settings)[1]
    assert torch.equal(batched_nms(boxes, scores, labels, settings | dict(max_num=4))[1], everything[:4])
    above = batched_nms(boxes, scores, labels, settings | dict(score_threshold=0.5))[1]
    assert torch.equal(above, everything[scores[everything] > 0.5])


def test_equal_scores_keep_the_order_of_the_boxes() -> None:
    boxes = torch.arange(12).float()[:, None] * 10 + torch.tensor([0.0, 0, 5, 5])
    labels = torch.arange(12) % 3
    for split_thr in (1, 10000):
        kept = batched_nms(boxes, torch.ones(12), labels, dict(iou_threshold=0.5, split_thr=split_thr))[1]
        assert kept.tolist() == list(range(12))


def test_without_settings_boxes_are_only_sorted() -> None:
    boxes, scores = some_boxes()
    dets, order = batched_nms(boxes, scores, torch.zeros(60), None)
    assert torch.equal(dets[:, 4], scores.sort(descending=True)[0])
    assert torch.equal(dets[:, :4], boxes[order])


def test_no_boxes_give_no_boxes() -> None:
    boxes, scores = torch.zeros(0, 4), torch.zeros(0)
    for dets, kept in (
        nms(boxes, scores, 0.5),
        soft_nms(boxes, scores, 0.5),
        batched_nms(boxes, scores, torch.zeros(0), dict(type='nms', iou_threshold=0.5)),
        batched_nms(boxes, scores, torch.zeros(0), None),
        nms(*some_boxes(), 0.5, score_threshold=2.0),
    ):
        assert dets.shape == (0, 5)
        assert kept.shape == (0,) and kept.dtype == torch.long


@pytest.mark.parametrize('suppress', [nms, soft_nms])
def test_boxes_without_area_and_inverted_ones(suppress) -> None:
    boxes = torch.tensor([[5.0, 5, 5, 5], [5, 5, 5, 5], [9, 9, 3, 3], [0, 0, 10, 10]])
    dets, kept = suppress(boxes, torch.tensor([0.9, 0.8, 0.7, 0.6]), 0.5)
    assert kept.tolist() == [0, 1, 2, 3]
    assert torch.isfinite(dets).all()


def test_mistakes_are_told() -> None:
    boxes, scores = some_boxes(5)
    with pytest.raises(
        ConfigError, match=r"soft_nms method='cubic' is unknown: use one of \['naive', 'linear'"
    ):
        soft_nms(boxes, scores, method='cubic')
    with pytest.raises(ConfigError, match=r"nms type='soft_mns' .* Did you mean 'soft_nms'"):
        batched_nms(boxes, scores, torch.zeros(5), dict(type='soft_mns'))
    with pytest.raises(ValueError, match=r'boxes \[5, 4\] with scores \[4\]: give \[N, 4\] with \[N\]'):
        nms(boxes, scores[:4], 0.5)
    with pytest.raises(ValueError, match='offset=2 is not possible: use 0 or 1'):
        soft_nms(boxes, scores, offset=2)


def test_a_function_of_ones_own_suppresses() -> None:
    boxes, scores = some_boxes(9)
    dets, kept = batched_nms(boxes, scores, torch.zeros(9), dict(type=nms, iou_threshold=0.2))
    assert kept.tolist() == loop_nms(boxes, scores, 0.2)
