"""Features of regions of interest, on torchvision's kernels.

Shape letters: B images, C channels, (H, W) map, R regions, (h, w) output cells.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor
from torch.nn.modules.utils import _pair

PoolMode = Literal['avg', 'max']


def roi_align(
    input: Tensor,
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    pool_mode: PoolMode = 'avg',
    aligned: bool = True,
) -> Tensor:
    """Average or maximum of bilinear samples in every cell of every region.

    Computed in fp32 for half types.

    Args:
        input: ``[B, C, H, W]``.
        rois: ``[R, 5]``: index of the image, then x1, y1, x2, y2 in pixels of the image.
        output_size: (h, w), or one number for both.
        spatial_scale: Cells of the map per pixel of the image.
        sampling_ratio: Samples per cell and axis; 0 takes one per cell of the map, rounded up, for every region.
        pool_mode: ``'avg'`` or ``'max'``.
        aligned: Whether pixel centres are at .5; if not, they are at whole numbers and regions are at least one cell
            large (the first Mask R-CNN).

    Returns:
        ``[R, C, h, w]`` in the dtype of ``input``; zeros where a region without area has no sample.

    Source: Mask R-CNN, He et al. 2017; ``aligned`` as in detectron2.
    """
    _check(rois)
    if pool_mode not in ('avg', 'max'):
        raise ValueError(f"pool_mode={pool_mode!r} is not possible: use 'avg' or 'max'")
    cells, exact = _pair(output_size), torch.promote_types(input.dtype, torch.float32)
    maps, regions = input.to(exact), rois.to(exact)
    if pool_mode == 'avg':
        pooled = torchvision.ops.roi_align(maps, regions, cells, spatial_scale, sampling_ratio, aligned)
    else:
        pooled = _max_align(maps, regions, cells, spatial_scale, sampling_ratio, aligned)
    return pooled.to(input.dtype)


def _max_align(
    maps: Tensor, rois: Tensor, cells: tuple[int, int], scale: float, ratio: int, aligned: bool
) -> Tensor:
    """Maximum of the samples: one sample in each of the sub-cells is where the samples of a cell are."""

    def pool(regions: Tensor, samples: tuple[int, int]) -> Tensor:
        fine = (cells[0] * samples[0], cells[1] * samples[1])
        # [R, C, h·rows, w·columns], pooled by the same factors to [R, C, h, w].
        return F.max_pool2d(torchvision.ops.roi_align(maps, regions, fine, scale, 1, aligned), samples)

    if not len(rois):
        # Nothing to count samples by; the call gives [0, C, h, w] and keeps the graph whole.
        return pool(rois, (1, 1))
    if ratio > 0:
        return pool(rois, (ratio, ratio))
    # (height, width) of each region in cells of the map, [R, 2].
    sizes = (rois[:, [4, 3]] - rois[:, [2, 1]]) * scale
    if not aligned:
        sizes = sizes.clamp(min=1)
    # (rows, columns) of samples per cell, different from region to region.
    counts = (sizes / sizes.new_tensor(cells)).ceil().clamp(min=1).long()
    pooled = maps.new_zeros(len(rois), maps.shape[1], *cells)
    # torchvision takes one output size for all regions of a call: one call per number of samples.
    for rows, columns in counts.unique(dim=0).tolist():
        members = ((counts[:, 0] == rows) & (counts[:, 1] == columns)).nonzero()[:, 0]
        pooled = pooled.index_copy(0, members, pool(rois[members], (rows, columns)))
    return pooled


def roi_pool(
    input: Tensor, rois: Tensor, output_size: int | tuple[int, int], spatial_scale: float = 1.0
) -> Tensor:
    """Maximum over whole cells of the map, as torchvision and the paper count them.

    Corners are rounded to cells first. Compiled mmcv (on CUDA only, it has none for CPU) does not round them: the two
    agree where corners fall on whole cells.

    Args:
        input: ``[B, C, H, W]``.
        rois: ``[R, 5]``: index of the image, then x1, y1, x2, y2 in pixels of the image, the last pixel included.
        output_size: (h, w), or one number for both.
        spatial_scale: Cells of the map per pixel of the image.

    Returns:
        ``[R, C, h, w]`` in the dtype of ``input``.

    Source: Fast R-CNN, Girshick 2015.
    """
    _check(rois)
    exact = torch.promote_types(input.dtype, torch.float32)
    pooled = torchvision.ops.roi_pool(input.to(exact), rois.to(exact), _pair(output_size), spatial_scale)
    return pooled.to(input.dtype)


def _check(rois: Tensor) -> None:
    if rois.ndim != 2 or rois.shape[1] != 5:
        raise ValueError(f'rois are {list(rois.shape)}: give [R, 5] as (image, x1, y1, x2, y2)')
