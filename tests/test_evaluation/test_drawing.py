"""What is drawn lies where it belongs, in the colour of its class."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from internvl_mm.evaluation.drawing import (
    class_colours,
    draw_classes,
    draw_objects,
    draw_scores,
    side_by_side,
)

GREY = Image.new('RGB', (40, 30), (100, 100, 100))


def test_colours_differ_and_stay_the_same() -> None:
    colours = class_colours(150)
    assert len(set(colours)) == 150
    assert class_colours(3) == colours[:3]
    neighbours = np.abs(np.diff(np.array(colours, dtype=int), axis=0)).sum(axis=1)
    assert neighbours.min() > 60


def test_classes_cover_their_pixels_and_no_others() -> None:
    labels = torch.full((30, 40), 255)
    labels[:10], labels[10:20, :5] = 1, 0
    drawn = np.asarray(draw_classes(GREY, labels, opacity=0.5))
    mixed = (np.array(class_colours(2)) + 100) / 2
    assert drawn[0, 0] == pytest.approx(mixed[1], abs=1)
    assert drawn[12, 2] == pytest.approx(mixed[0], abs=1)
    assert (drawn[20:] == 100).all() and (drawn[10:20, 5:] == 100).all()
    assert np.array_equal(draw_classes(GREY, torch.full((30, 40), 255)), GREY)


def test_objects_have_an_outline_a_mask_and_no_inverted_box() -> None:
    boxes = torch.tensor([[5.0, 5, 20, 25], [30, 20, 10, 10]])
    masks = torch.zeros(2, 30, 40, dtype=torch.bool)
    masks[0, 20:24, 10:14] = True
    drawn = np.asarray(draw_objects(GREY, boxes, [2, 0], ['', ''], masks))
    inverted, _, colour = class_colours(3)
    assert drawn[25, 12].tolist() == list(colour)
    assert drawn[22, 12] == pytest.approx((np.array(colour) + 100) / 2, abs=1)
    assert not (drawn == inverted).all(axis=-1).any()
    empty = draw_objects(GREY, boxes[:0], [], [], masks[:0])
    assert np.array_equal(empty, GREY) and empty is not GREY


def test_captions_are_below_and_wrap() -> None:
    short = draw_scores(GREY, ['cat'], [0.5])
    long = draw_scores(GREY, ['a name much longer than the picture is wide'], [0.5])
    assert short.width == long.width == 40 and long.height > short.height > 30
    assert np.array_equal(short.crop((0, 0, 40, 30)), GREY)
    assert (np.asarray(short)[30:] < 128).any()


def test_side_by_side() -> None:
    sheet = side_by_side([GREY, GREY], ['left', 'right'])
    assert sheet.width == 84 and sheet.height > 30
    assert np.array_equal(sheet.crop((44, 0, 84, 30)), GREY)
