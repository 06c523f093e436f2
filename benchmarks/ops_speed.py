"""RoIAlign, suppression and deformable attention against compiled mmcv, or against plain torch where there is none.

The gate: results agree with every peer (features within 1e-4 of the largest value, the same boxes kept) before anything
is timed. Forward and backward for what is trained through. Sizes: an RPN's proposals, a box head's regions, and the
injector of ViT-Adapter-S at 512 pixels.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial

import torch
import torchvision
from torch import Tensor
from transformers.models.deformable_detr import modeling_deformable_detr

from benchmarks.harness import Row, compare, interleave
from internvl_mm import ops

GATE = 1e-4
LEVELS = [(64, 64), (32, 32), (16, 16)]
Contestants = dict[str, Callable[..., Tensor]]


def plain_nms(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """All overlaps at once, then a loop over boxes."""
    order = scores.argsort(descending=True, stable=True)
    over = torchvision.ops.box_iou(boxes[order], boxes[order]) > threshold
    keep = torch.ones(len(order), dtype=torch.bool)
    for index in range(len(order)):
        if keep[index]:
            keep[index + 1 :] &= ~over[index, index + 1 :]
    return order[keep]


def plain_roi_align(maps: Tensor, rois: Tensor) -> Tensor:
    """The implementation in Python that torchvision keeps for determinism, without compiling it."""
    module = importlib.import_module('torchvision.ops.roi_align')
    return module._roi_align.__wrapped__(maps, rois, 0.25, 7, 7, 2, True)


def plain_attention(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """Samples of all levels stacked, then weighed."""
    module = modeling_deformable_detr.MultiScaleDeformableAttention()
    return module(value, torch.tensor(LEVELS), LEVELS, None, locations, weights, 64)


def compiled(name: str) -> Contestants:
    """The contestant of mmcv, if it is compiled here."""
    if ops.backend() != 'compiled':
        return {}
    theirs = importlib.import_module('mmcv.ops')
    if name == 'nms':
        return {'mmcv': lambda boxes, scores: theirs.nms(boxes, scores, 0.7)[1]}
    if name == 'roi_align':
        return {'mmcv': lambda maps, rois: theirs.roi_align(maps, rois, 7, 0.25, 2, 'avg', True)}
    # mmcv has no compiled attention for the CPU; its module runs the plain one there.
    return {}


def proposals(count: int, side: float) -> Tensor:
    """Boxes ``[N, 4]`` of mixed sizes within ``side`` pixels."""
    centres, sizes = torch.rand(count, 2) * side, torch.rand(count, 2) * side / 4 + 4
    return torch.cat([centres - sizes / 2, centres + sizes / 2], dim=1).clamp(0, side)


def gate(what: str, runs: Contestants, inputs: tuple[Tensor, ...]) -> None:
    """Stop unless all contestants agree."""
    ours = runs['ours'](*inputs).double()
    for name, run in runs.items():
        theirs = run(*inputs).double()
        if theirs.shape != ours.shape or (theirs - ours).abs().max() > GATE * ours.abs().max():
            raise AssertionError(f'{what} differs from {name}: nothing to compare')


def forward_backward(run: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> None:
    """One pass of a step; gradients are dropped."""
    leaves = [part.detach().requires_grad_() for part in inputs]
    run(*leaves).sum().backward()


def cells(what: str, runs: Contestants, inputs: tuple[Tensor, ...], *, train: bool, rounds: int) -> list[Row]:
    """Rows of one operator: forward, and with backward where it is trained through."""
    with torch.inference_mode():
        gate(what, runs, inputs)
        seconds = interleave(
            {name: partial(run, *inputs) for name, run in runs.items()}, rounds=rounds, warmup=1
        )
    rows = [compare(f'{what} forward', seconds, peer, goal=1.0) for peer in runs if peer != 'ours']
    if train:
        steps = {name: partial(forward_backward, run, inputs) for name, run in runs.items()}
        seconds = interleave(steps, rounds=rounds, warmup=1)
        rows += [
            compare(f'{what} forward+backward', seconds, peer, goal=1.0) for peer in runs if peer != 'ours'
        ]
    return rows


def run(quick: bool = False) -> list[Row]:
    """All cells."""
    torch.manual_seed(0)
    rounds = 3 if quick else 15
    boxes, scores = proposals(2000, 512.0), torch.rand(2000)
    suppress: Contestants = {
        'ours': lambda boxes, scores: ops.nms(boxes, scores, 0.7)[1],
        'plain torch': lambda boxes, scores: plain_nms(boxes, scores, 0.7),
        **compiled('nms'),
    }
    maps = torch.randn(1, 256, 128, 128)
    rois = torch.cat([torch.zeros(128, 1), proposals(128, 512.0)], dim=1)
    pool: Contestants = {
        'ours': lambda maps: ops.roi_align(maps, rois, 7, 0.25, 2),
        'plain torch': lambda maps: plain_roi_align(maps, rois),
        **{name: partial(_second, function, rois) for name, function in compiled('roi_align').items()},
    }
    # [B, K, H, d], [B, Q, H, L, P, 2], [B, Q, H, L, P]
    value = torch.randn(1, sum(height * width for height, width in LEVELS), 6, 64)
    locations, weights = torch.rand(1, 1024, 6, 3, 4, 2), torch.rand(1, 1024, 6, 3, 4)
    attend: Contestants = {
        'ours': lambda *parts: ops.multi_scale_deformable_attn(parts[0], LEVELS, *parts[1:]),
        'transformers': plain_attention,
    }
    return [
        *cells('nms of 2000', suppress, (boxes, scores), train=False, rounds=rounds),
        *cells('RoIAlign of 128', pool, (maps,), train=True, rounds=rounds),
        *cells('deformable attention', attend, (value, locations, weights), train=True, rounds=rounds),
    ]


def _second(function: Callable[[Tensor, Tensor], Tensor], rois: Tensor, maps: Tensor) -> Tensor:
    return function(maps, rois)
