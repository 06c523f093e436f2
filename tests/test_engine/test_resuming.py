"""Which state a run of several processes goes on from: one looks, all are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from internvl_mm.engine import resuming
from internvl_mm.engine.resuming import choose_together
from internvl_mm.engine.strategies.launch import join_group
from internvl_mm.utils.errors import CheckpointError
from tests.test_engine.test_resume import run
from tests.test_engine.tiny import SaveAt, tiny_config


def test_the_first_process_looks_for_all(work_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tiny_config(work_dir), SaveAt(3))
    join_group('none')
    (state,) = work_dir.glob('*/checkpoints/iter_*')
    assert choose_together(str(work_dir), True, 'pytorch', {}) == str(state)

    def broadcast(found: list, group: object) -> None:
        found[:] = ['chosen elsewhere', None]

    # On another process: nothing is looked for, not even in a folder that is not there.
    monkeypatch.setattr(resuming, 'get_rank', lambda: 1)
    monkeypatch.setattr(resuming, 'broadcast_object_list', broadcast)
    assert choose_together('nowhere', True, 'pytorch', {}) == 'chosen elsewhere'


def test_what_the_first_process_refuses_all_refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    join_group('none')
    with pytest.raises(CheckpointError, match='does not exist'):
        choose_together('', str(tmp_path / 'nowhere'), 'pytorch', {})

    def broadcast(found: list, group: object) -> None:
        found[:] = [None, 'all 2 training states are damaged']

    monkeypatch.setattr(resuming, 'get_rank', lambda: 1)
    monkeypatch.setattr(resuming, 'broadcast_object_list', broadcast)
    with pytest.raises(CheckpointError, match='all 2 training states are damaged'):
        choose_together('', True, 'pytorch', {})
