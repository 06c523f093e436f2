"""Neighbours of similar length."""

from __future__ import annotations

import numpy as np
import pytest

from internvl_mm.data import EpochSampler, LengthGroupedSampler
from internvl_mm.utils.errors import ConfigError


class Sized:
    def __init__(self, count: int):
        self.lengths = np.random.default_rng(0).integers(1, 1000, count)

    def __len__(self) -> int:
        return len(self.lengths)

    def sizes(self) -> np.ndarray:
        return np.stack([self.lengths, np.zeros_like(self.lengths)], axis=1)


def padding(data: Sized, sampler: EpochSampler, batch: int) -> float:
    """Share of a padded epoch that is padding."""
    order = np.array(list(sampler))
    steps = [data.lengths[order[start : start + batch]] for start in range(0, len(order), batch)]
    return 1 - data.lengths.sum() / sum(step.max() * len(step) for step in steps)


def test_every_sample_once_and_little_padding() -> None:
    data = Sized(1003)
    sampler = LengthGroupedSampler(data, batch_size=8, seed=0)
    assert sorted(sampler) == list(range(1003))
    assert padding(data, EpochSampler(data, seed=0), 8) > 0.4
    assert padding(data, sampler, 8) < 0.03
    assert padding(data, LengthGroupedSampler(data, batch_size=8, group=1, seed=0), 8) > 0.4


def test_steps_of_a_group_come_in_random_order_and_each_epoch_anew() -> None:
    data = Sized(800)
    sampler = LengthGroupedSampler(data, batch_size=8, seed=0)
    first = [data.lengths[index] for index in sampler][::8]
    assert first != sorted(first, reverse=True)
    sampler.set_epoch(1)
    assert [data.lengths[index] for index in sampler][::8] != first


def test_it_resumes_exactly() -> None:
    data = Sized(100)
    sampler = LengthGroupedSampler(data, batch_size=4, seed=2)
    whole = list(sampler)
    sampler.skip(40)
    assert list(sampler) == whole[40:]


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match='group=0'):
        LengthGroupedSampler(Sized(4), batch_size=2, group=0, seed=0)
