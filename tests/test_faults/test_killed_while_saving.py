"""A process killed at any moment of a save never leaves a newest state that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from internvl_mm.engine.doctor.faults import damaged_checkpoints, damaged_images, kill_while_saving, save
from internvl_mm.utils.errors import CheckpointError
from internvl_mm.utils.states import check_files

KILLS = 200


@pytest.mark.slow
def test_two_hundred_kills(tmp_path: Path) -> None:
    last, hits = kill_while_saving(tmp_path, KILLS)
    # Kills have to hit saves, and saves have to get through, or this proves nothing.
    assert last > KILLS // 10 and hits > KILLS // 10


def test_a_state_that_is_lost_would_be_noticed(tmp_path: Path) -> None:
    state = save(tmp_path, 1)
    (state / 'model.safetensors').unlink()
    with pytest.raises(CheckpointError, match='is missing'):
        check_files(state)


def test_damage_is_refused(tmp_path: Path, monkeypatch) -> None:
    assert damaged_checkpoints(tmp_path) == '20 of 20 damaged states refused'
    assert damaged_images(tmp_path) == '20 of 20 cut images refused'
    monkeypatch.setattr('internvl_mm.engine.doctor.faults.check_files', lambda state: None)
    with pytest.raises(AssertionError, match='20 of 20 damaged states were accepted'):
        damaged_checkpoints(tmp_path)
