"""Samples at points against bilinear interpolation written out, and regions against their points."""

from __future__ import annotations

import pytest
import torch

from internvl_mm.ops import SimpleRoIAlign, point_sample, rel_roi_point_to_rel_img_point, roi_align


def ramp(height: int, width: int) -> torch.Tensor:
    """``[1, 2, H, W]`` whose channels are x and y of the centre of each cell, from the upper left corner."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing='ij')
    return torch.stack([x, y])[None]


def test_a_sample_is_where_its_point_is() -> None:
    # beyond the outermost centres, zeros outside the map would be mixed in
    points = torch.rand(1, 20, 2) * 0.7 + 0.15
    found = point_sample(ramp(6, 8), points)
    torch.testing.assert_close(found[0].T, points[0] * torch.tensor([8.0, 6.0]))
    corners = torch.tensor([[[0.0, 0.0], [1.0, 1.0]]])
    assert point_sample(ramp(6, 8), corners, align_corners=True)[0].T.tolist() == [[0.5, 0.5], [7.5, 5.5]]
    grid = points.view(1, 4, 5, 2)
    assert torch.equal(point_sample(ramp(6, 8), grid).flatten(2), found)
    assert point_sample(ramp(6, 8), points[:, :0]).shape == (1, 2, 0)
    nearest = point_sample(ramp(6, 8), points, mode='nearest')[0]
    assert (nearest % 1 == 0.5).all()


def test_half_maps_are_sampled_at_exact_points() -> None:
    maps, points = torch.randn(2, 3, 5, 5).bfloat16(), torch.rand(2, 7, 2)
    assert torch.equal(point_sample(maps, points), point_sample(maps.float(), points).bfloat16())


def test_gradients_of_samples() -> None:
    maps, points = (
        torch.randn(1, 2, 4, 4).double().requires_grad_(),
        torch.rand(1, 5, 2).double().requires_grad_(),
    )
    assert torch.autograd.gradcheck(point_sample, (maps, points))


@pytest.mark.parametrize('columns', [4, 5])
def test_points_of_regions(columns: int) -> None:
    rois = torch.tensor([[0.0, 4.0, 2.0, 12.0, 6.0]])[:, -columns:]
    inside = torch.tensor([[[0.0, 0.0], [0.5, 0.25], [1.0, 1.0]]])
    wanted = torch.tensor([[[4.0, 2.0], [8.0, 3.0], [12.0, 6.0]]]) / torch.tensor([16.0, 8.0])
    torch.testing.assert_close(rel_roi_point_to_rel_img_point(rois, inside, (8, 16)), wanted)
    scaled = rel_roi_point_to_rel_img_point(rois, inside, torch.zeros(1, 1, 4, 8), 0.5)
    torch.testing.assert_close(scaled, wanted)


def test_regions_keep_their_order_and_may_be_none() -> None:
    maps = torch.randn(3, 2, 10, 12, requires_grad=True)
    rois = torch.tensor([[2.0, 2, 2, 18, 14], [0, 4, 4, 12, 12], [2, 0, 0, 24, 20], [0, 8, 8, 8, 8]])
    align = SimpleRoIAlign((3, 4), 0.5)
    found = align(maps, rois)
    for index in range(len(rois)):
        torch.testing.assert_close(found[index], align(maps, rois[index : index + 1])[0])
    # one sample at the centre of each cell is what RoIAlign takes with a sampling ratio of 1, away from the border
    torch.testing.assert_close(found[:2], roi_align(maps, rois[:2], (3, 4), 0.5, 1))
    none = align(maps, rois[:0])
    assert none.shape == (0, 2, 3, 4)
    (found.sum() + none.sum()).backward()
    assert maps.grad[0].any() and maps.grad[2].any() and not maps.grad[1].any()
