"""Plans of packs."""

from __future__ import annotations

import numpy as np
import pytest

from internvl_mm.data.packing import PackPlan, plan_packs
from internvl_mm.utils.errors import ConfigError, DataError


def mixed_sizes(count: int) -> np.ndarray:
    """Texts of many lengths, and pictures of up to 13 tiles with 256 tokens each."""
    rng = np.random.default_rng(0)
    text = np.clip(rng.lognormal(5, 1, count), 16, 8000).astype(int)
    tiles = rng.choice([0, 1, 3, 5, 7, 9, 13], count, p=[0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    return np.stack([text + tiles * 256, tiles], axis=1)


def check(plan: PackPlan, sizes: np.ndarray, max_tokens: int, max_tiles: int) -> None:
    assert sorted([*plan.members.tolist(), *plan.left_out.tolist()]) == list(range(len(sizes)))
    for pack in range(len(plan)):
        assert plan[pack]
        tokens, tiles = sizes[plan[pack]].sum(axis=0)
        assert tokens <= max_tokens
        assert tiles <= max_tiles


@pytest.mark.parametrize(('max_tokens', 'max_tiles'), [(16_384, 48), (16_384, 16), (8192, 60)])
def test_packs_are_full_and_within_both_caps(max_tokens: int, max_tiles: int) -> None:
    sizes = mixed_sizes(20_000)
    plan = plan_packs(sizes, max_tokens=max_tokens, max_tiles=max_tiles, seed=1)
    check(plan, sizes, max_tokens, max_tiles)
    assert plan.fill >= 0.97
    used = sizes[plan.members].sum(axis=0) / len(plan) / (max_tokens, max_tiles)
    assert (plan.token_fill, plan.tile_fill) == pytest.approx(tuple(used))


def test_pinned_plan() -> None:
    sizes = np.array([[6, 1], [4, 0], [5, 2], [5, 0], [3, 3], [11, 0], [2, 4], [7, 0]])
    plan = plan_packs(sizes, max_tokens=10, max_tiles=3, seed=0)
    assert plan.left_out.tolist() == [5, 6]
    assert sorted(sorted(plan[pack]) for pack in range(len(plan))) == [[0, 1], [2, 3], [4, 7]]
    assert (plan.token_fill, plan.tile_fill) == (1.0, pytest.approx(6 / 9))


def test_plans_follow_the_seed_alone() -> None:
    sizes = mixed_sizes(500)
    first, same, other = (plan_packs(sizes, max_tokens=9000, max_tiles=20, seed=seed) for seed in (3, 3, 4))
    assert first.members.tolist() == same.members.tolist()
    assert first.starts.tolist() == same.starts.tolist()
    assert first.members.tolist() != other.members.tolist()


def test_packs_come_in_random_order() -> None:
    sizes = mixed_sizes(5000)
    plan = plan_packs(sizes, max_tokens=16_384, max_tiles=48)
    largest = np.array([sizes[plan[pack], 0].max() for pack in range(len(plan))])
    half = len(plan) // 2
    assert abs(largest[:half].mean() / largest[half:].mean() - 1) < 0.1


def test_mistakes_are_told() -> None:
    with pytest.raises(
        DataError, match='none of 2 samples fits into a pack of max_tokens=10 and max_tiles=3'
    ):
        plan_packs(np.array([[11, 0], [-1, -1]]), max_tokens=10, max_tiles=3)
    with pytest.raises(ConfigError, match='max_tiles=0'):
        plan_packs(np.array([[1, 0]]), max_tokens=10, max_tiles=0)
