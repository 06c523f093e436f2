"""Windows are the published ones, and batches of them change nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from internvl_mm.models.inference import SlideInference, WholeInference
from internvl_mm.utils.errors import ConfigError


@pytest.mark.parametrize(
    ('size', 'spans'),
    [
        (504, [(0, 504)]),
        (505, [(0, 504), (1, 505)]),
        (504 + 322, [(0, 504), (322, 826)]),
        (827, [(0, 504), (322, 826), (323, 827)]),
        (490, [(0, 490)]),
    ],
)
def test_windows_follow_the_published_rule(size: int, spans: list[tuple[int, int]]):
    windows = SlideInference(504, 322).windows(504, size)
    assert [(left, right) for _, left, _, right in windows] == spans
    assert {(top, bottom) for top, _, bottom, _ in windows} == {(0, 504)}
    assert SlideInference(504, 322).windows(size, 504) == [(a, 0, b, 504) for a, b in spans]


def position_dependent(crops: Tensor) -> Tensor:
    """Two classes; a window answers differently at its border, so that averaging shows."""
    weight = torch.linspace(0, 1, crops.shape[-1]).expand_as(crops[:, :1])
    return torch.cat([crops[:, :1] * weight, crops[:, 1:2]], dim=1)


@pytest.mark.parametrize('batch_size', [1, 3, 64])
def test_batches_of_windows_equal_single_windows(batch_size: int):
    pixels = torch.randn(2, 3, 21, 30)
    slide = SlideInference(12, 7, batch_size=batch_size)
    expected, counts = torch.zeros(2, 2, 21, 30), torch.zeros(1, 1, 21, 30)
    for top, left, bottom, right in slide.windows(21, 30):
        expected[..., top:bottom, left:right] += position_dependent(pixels[..., top:bottom, left:right])
        counts[..., top:bottom, left:right] += 1
    torch.testing.assert_close(slide(position_dependent, pixels), expected / counts)


def test_forward_passes_are_few():
    calls = []

    def count(crops: Tensor) -> Tensor:
        calls.append(len(crops))
        return crops

    SlideInference(12, 7, batch_size=4)(count, torch.randn(2, 3, 12, 33))
    assert calls == [4, 4]  # four windows in each of two pictures


def test_whole_inference_is_one_call():
    pixels = torch.randn(1, 3, 4, 4)
    assert WholeInference()(lambda crops: crops * 2, pixels).equal(pixels * 2)


def test_settings_that_leave_gaps():
    with pytest.raises(ConfigError, match='stride=20 is larger than crop_size=12'):
        SlideInference(12, 20)
    with pytest.raises(ConfigError, match='stride=0 is not possible'):
        SlideInference(12, 0)
