"""Regions of interest against loops over samples, written from the definition."""

from __future__ import annotations

import math

import pytest
import torch
import torchvision
from torch import Tensor

from internvl_mm.ops import RoIAlign, RoIPool, roi_align, roi_pool

ROIS = torch.tensor(
    [
        [0, 1.3, 2.1, 9.7, 7.9],
        [1, 0.0, 0.0, 31.0, 23.0],
        [0, -5.0, -3.0, 12.5, 40.0],  # beyond three borders
        [1, 8.2, 8.2, 8.9, 8.4],  # smaller than a cell
        [0, 6.0, 6.0, 6.0, 6.0],  # no area
        [1, 100.0, 100.0, 120.0, 130.0],  # wholly outside
    ]
)


def bilinear(image: Tensor, y: float, x: float) -> Tensor:
    """A sample of ``[C, H, W]``: clamped within one cell of the border, zero beyond."""
    height, width = image.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return image.new_zeros(image.shape[0])
    y, x = min(max(y, 0.0), height - 1), min(max(x, 0.0), width - 1)
    top, left = int(y), int(x)
    below, right = min(top + 1, height - 1), min(left + 1, width - 1)
    dy, dx = y - top, x - left
    upper = image[:, top, left] * (1 - dx) + image[:, top, right] * dx
    lower = image[:, below, left] * (1 - dx) + image[:, below, right] * dx
    return upper * (1 - dy) + lower * dy


def loop_align(
    maps: Tensor, rois: Tensor, size: tuple[int, int], scale: float, ratio: int, **options
) -> Tensor:
    out = torch.zeros(len(rois), maps.shape[1], *size)
    for number, (image, *corners) in enumerate(rois.tolist()):
        left, top, right, bottom = (corner * scale - 0.5 * options['aligned'] for corner in corners)
        height, width = bottom - top, right - left
        if not options['aligned']:
            height, width = max(height, 1.0), max(width, 1.0)
        rows, columns = (ratio or math.ceil(extent / cells) for extent, cells in zip((height, width), size))
        # Without a sample the average is 0; the maximum looks at one point.
        if options['pool_mode'] == 'max':
            rows, columns = max(rows, 1), max(columns, 1)
        for i in range(size[0]):
            for j in range(size[1]):
                samples = [
                    bilinear(
                        maps[int(image)],
                        top + (i + (row + 0.5) / rows) * height / size[0],
                        left + (j + (column + 0.5) / columns) * width / size[1],
                    )
                    for row in range(rows)
                    for column in range(columns)
                ]
                if samples:
                    stacked = torch.stack(samples)
                    out[number, :, i, j] = (
                        stacked.mean(0) if options['pool_mode'] == 'avg' else stacked.amax(0)
                    )
    return out


@pytest.fixture
def maps() -> Tensor:
    return torch.randn(2, 3, 12, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('ratio', [0, 1, 2])
@pytest.mark.parametrize('pool_mode', ['avg', 'max'])
def test_roi_align_is_the_loop(maps: Tensor, aligned: bool, ratio: int, pool_mode: str) -> None:
    wanted = loop_align(maps, ROIS, (3, 2), 0.5, ratio, aligned=aligned, pool_mode=pool_mode)
    found = roi_align(maps, ROIS, (3, 2), 0.5, ratio, pool_mode, aligned)
    torch.testing.assert_close(found, wanted)
    module = RoIAlign((3, 2), spatial_scale=0.5, sampling_ratio=ratio, pool_mode=pool_mode, aligned=aligned)
    assert torch.equal(module(maps, ROIS), found)
    if pool_mode == 'avg':
        theirs = RoIAlign((3, 2), 0.5, ratio, pool_mode, aligned, use_torchvision=True)
        assert torch.equal(theirs(maps, ROIS), found)


def loop_pool(maps: Tensor, rois: Tensor, size: int, scale: float) -> Tensor:
    out = torch.zeros(len(rois), maps.shape[1], size, size)
    for number, (image, *corners) in enumerate(rois.tolist()):
        left, top, right, bottom = (int(corner * scale + math.copysign(0.5, corner)) for corner in corners)
        height, width = max(bottom - top + 1, 1), max(right - left + 1, 1)
        for i in range(size):
            for j in range(size):
                rows = slice(max(top + i * height // size, 0), max(top - (-(i + 1) * height // size), 0))
                columns = slice(max(left + j * width // size, 0), max(left - (-(j + 1) * width // size), 0))
                cell = maps[int(image), :, rows, columns].flatten(1)
                if cell.shape[1]:
                    out[number, :, i, j] = cell.amax(1)
    return out


@pytest.mark.parametrize('scale', [0.5, 1.0])
def test_roi_pool_is_the_loop(maps: Tensor, scale: float) -> None:
    found = roi_pool(maps, ROIS, 3, scale)
    torch.testing.assert_close(found, loop_pool(maps, ROIS, 3, scale))
    assert torch.equal(found, torchvision.ops.roi_pool(maps, ROIS, 3, scale))
    assert torch.equal(RoIPool(3, scale)(maps, ROIS), found)


@pytest.mark.parametrize('pool_mode', ['avg', 'max'])
@pytest.mark.parametrize('ratio', [0, 2])
def test_gradients_of_roi_align(pool_mode: str, ratio: int) -> None:
    maps = torch.randn(2, 1, 6, 8, dtype=torch.float64, requires_grad=True)
    rois = ROIS[:4].double()
    assert torch.autograd.gradcheck(lambda x: roi_align(x, rois, 2, 0.25, ratio, pool_mode), maps)
    assert torch.autograd.gradcheck(lambda x: roi_pool(x, rois, 2, 0.25), maps)


@pytest.mark.parametrize('pool_mode', ['avg', 'max'])
def test_no_regions_give_no_features_and_keep_the_graph(maps: Tensor, pool_mode: str) -> None:
    maps.requires_grad_()
    for pooled in (roi_align(maps, ROIS[:0], 7, pool_mode=pool_mode), roi_pool(maps, ROIS[:0], 7)):
        assert pooled.shape == (0, 3, 7, 7)
        pooled.sum().backward()
    assert not maps.grad.any()


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_types_are_pooled_exactly(maps: Tensor, dtype: torch.dtype) -> None:
    half = maps.to(dtype).requires_grad_()
    pooled = roi_align(half, ROIS, 3, 0.5)
    assert pooled.dtype == dtype
    assert torch.equal(pooled, roi_align(half.float(), ROIS, 3, 0.5).to(dtype))
    (pooled.sum() + roi_pool(half, ROIS, 3, 0.5).sum()).backward()
    assert half.grad.dtype == dtype and half.grad.any()


def test_mistakes_are_told(maps: Tensor) -> None:
    with pytest.raises(ValueError, match=r'rois are \[6, 4\]: give \[R, 5\]'):
        roi_align(maps, ROIS[:, 1:], 7)
    with pytest.raises(ValueError, match=r'rois are \[6, 4\]'):
        roi_pool(maps, ROIS[:, 1:], 7)
    with pytest.raises(ValueError, match="pool_mode='min' is not possible: use 'avg' or 'max'"):
        roi_align(maps, ROIS, 7, pool_mode='min')
