"""A disk that fails, or takes only part of what is written, loses nothing that was complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from internvl_mm.engine.doctor import faults
from internvl_mm.utils.errors import CheckpointError


def test_saves_that_fail_leave_the_state_before(tmp_path: Path) -> None:
    assert faults.failing_disk(tmp_path) == (
        'input/output error and file too large, at any file: refused, the state before is whole'
    )


def test_a_save_that_failed_unnoticed_would_be_found(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(faults, 'save', lambda folder, number: folder)
    with pytest.raises(AssertionError, match='was saved on a disk that fails'):
        faults.fails_to_save(tmp_path, faults.io_errors(1))


@pytest.mark.parametrize('after', [100, 3000])
def test_a_short_write_is_told(tmp_path: Path, after: int) -> None:
    state = faults.save(tmp_path, 1)
    with faults.short_writes(after), pytest.raises(CheckpointError, match='iter_000002 was not written'):
        faults.save(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [state.name, 'latest']
