"""Features at points, as PointRend and Mask2Former take them, with the arguments of mmcv's functions.

Shape letters: B images, C channels, (H, W) map, R regions, P points, (h, w) output cells. Points are (x, y), 0 to 1.

Source: PointRend, Kirillov et al. 2020 (arXiv 1912.08193).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.utils import _pair


def point_sample(input: Tensor, points: Tensor, align_corners: bool = False, **options: Any) -> Tensor:
    """Bilinear samples of a map, computed in fp32 for half types.

    Args:
        input: ``[B, C, H, W]``.
        points: ``[B, P, 2]`` or ``[B, h, w, 2]`` from 0 to 1 over the whole map.
        align_corners: Whether 0 and 1 are the centres of the outermost cells, not their outer borders.
        options: Further arguments of ``grid_sample``.

    Returns:
        ``[B, C, P]`` or ``[B, C, h, w]`` in the dtype of ``input``.
    """
    exact = torch.promote_types(input.dtype, torch.float32)
    # [B, P, 2] -> [B, P, 1, 2]: a map of one column, since grid_sample takes maps only.
    grid = points[:, :, None] if points.ndim == 3 else points
    # grid_sample counts from -1 to 1.
    sampled = F.grid_sample(input.to(exact), 2 * grid.to(exact) - 1, align_corners=align_corners, **options)
    return (sampled[..., 0] if points.ndim == 3 else sampled).to(input.dtype)


@torch.no_grad()
def rel_roi_point_to_rel_img_point(
    rois: Tensor, rel_roi_points: Tensor, img: tuple[int, int] | Tensor, spatial_scale: float = 1.0
) -> Tensor:
    """Points within regions as points within their whole map.

    Args:
        rois: x1, y1, x2, y2 in pixels ``[R, 4]``, or with the index of the image before them ``[R, 5]``.
        rel_roi_points: From 0 to 1 over the region ``[R, P, 2]``.
        img: (H, W), or the map ``[B, C, H, W]`` itself.
        spatial_scale: Cells of the map per pixel.

    Returns:
        ``[R, P, 2]``, without gradient.
    """
    # Counted from the end, [R, 4] and [R, 5] read alike; [R, 1, 2] each, over the P points.
    first, last = rois[:, None, -4:-2], rois[:, None, -2:]
    height, width = img.shape[-2:] if isinstance(img, Tensor) else img
    pixels = first + rel_roi_points * (last - first)  # [R, P, 2]
    return pixels * spatial_scale / pixels.new_tensor([width, height])


class SimpleRoIAlign(nn.Module):
    """One sample at the centre of every cell of a region, which is faster than :func:`roi_align`.

    Unlike mmcv's, the results are in the order of the regions even if those are not sorted by image, and there may be
    no region at all.

    Args:
        output_size: (h, w), or one number for both.
        spatial_scale: Cells of the map per pixel of the image.
        aligned: Whether pixel centres are at .5.
    """

    use_torchvision = False  # read by mmdet, as of every layer on regions

    def __init__(self, output_size: int | tuple[int, int], spatial_scale: float, aligned: bool = True):
        super().__init__()
        self.output_size = _pair(output_size)
        self.spatial_scale, self.aligned = float(spatial_scale), aligned

    def forward(self, features: Tensor, rois: Tensor) -> Tensor:
        """Features ``[R, C, h, w]`` of maps ``[B, C, H, W]`` in regions ``[R, 5]``: image, x1, y1, x2, y2."""
        centres = [(torch.arange(size, device=rois.device) + 0.5) / size for size in self.output_size]
        y, x = torch.meshgrid(*centres, indexing='ij')
        # Row by row, as unflatten at the end undoes it: [h, w, 2] -> [h·w, 2] -> [R, h·w, 2].
        cells = torch.stack([x, y], dim=-1).flatten(0, 1).to(rois.dtype).expand(len(rois), -1, -1)
        points = rel_roi_point_to_rel_img_point(rois, cells, features, self.spatial_scale)
        # The sum keeps the graph whole where there is no region.
        found = features.new_zeros(len(rois), features.shape[1], cells.shape[1]) + features.sum() * 0
        for image in rois[:, 0].long().unique().tolist():
            members = (rois[:, 0].long() == image).nonzero()[:, 0]
            # [1, C, R of this image, h·w]
            sampled = point_sample(features[image : image + 1], points[members][None], not self.aligned)
            found = found.index_copy(0, members, sampled[0].transpose(0, 1))
        return found.unflatten(-1, self.output_size)
