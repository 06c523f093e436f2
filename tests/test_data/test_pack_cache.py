"""Plans of packs come from disk the second time, and only there where they are the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from internvl_mm.data import pack_cache
from internvl_mm.data.pack_cache import find_plan
from internvl_mm.data.packing import plan_packs
from internvl_mm.utils.errors import DataError

SIZES = np.random.default_rng(0).integers(1, 60, (200, 2)) % [60, 4]
CAPS = dict(max_tokens=100, max_tiles=8, seed=3)


def test_a_kept_plan_is_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = plan_packs(SIZES, **CAPS)
    first = find_plan(SIZES, **CAPS, folder=tmp_path / 'plans')
    monkeypatch.setattr(pack_cache, 'plan_packs', lambda *args, **kwargs: pytest.fail('planned again'))
    second = find_plan(SIZES, **CAPS, folder=tmp_path / 'plans')
    for plan in (first, second):
        assert [plan[i] for i in range(len(plan))] == [expected[i] for i in range(len(expected))]
        assert (plan.token_fill, plan.tile_fill) == (expected.token_fill, expected.tile_fill)
        assert np.array_equal(plan.left_out, expected.left_out)


def test_other_sizes_and_damage_are_planned_anew(tmp_path: Path) -> None:
    find_plan(SIZES, **CAPS, folder=tmp_path)
    (file,) = tmp_path.iterdir()
    find_plan(SIZES[:-1], **CAPS, folder=tmp_path)
    find_plan(SIZES, **dict(CAPS, seed=4), folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    file.write_bytes(file.read_bytes()[:100])
    again = find_plan(SIZES, **CAPS, folder=tmp_path)
    assert len(again) == len(plan_packs(SIZES, **CAPS))
    (tmp_path / 'text').write_text('')
    with pytest.raises(DataError, match='cannot be written .*another plan_folder'):
        find_plan(SIZES, **CAPS, folder=tmp_path / 'text')
