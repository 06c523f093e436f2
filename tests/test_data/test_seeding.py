from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from internvl_mm.data.seeding import seeded


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_the_key_decides_and_every_part_of_it_counts():
    def under(*key: int) -> tuple:
        with seeded(*key):
            return draw()

    assert under(1, 2, 3) == under(1, 2, 3)
    different = [under(1, 2, 3), under(1, 2, 4), under(1, 3, 3), under(0, 2, 3)]
    assert all(len(set(column)) == 4 for column in zip(*different))


def test_outside_nothing_changes_even_after_an_error():
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    expected = [draw(), draw()]
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    first = draw()
    with pytest.raises(KeyError), seeded(7):
        draw()
        raise KeyError
    assert [first, draw()] == expected
