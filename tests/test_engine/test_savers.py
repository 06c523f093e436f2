"""States written in the background: the same bytes, a bounded wait, and no error lost."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from internvl_mm.engine import checkpoint, patience, savers
from internvl_mm.engine.checkpoint import render_state, write_state
from internvl_mm.engine.hooks import CheckpointHook, EMAHook
from internvl_mm.engine.runner import Runner
from internvl_mm.engine.savers import BackgroundSaver, Saver
from internvl_mm.engine.trees import load_tree
from internvl_mm.utils.errors import CheckpointError
from internvl_mm.utils.states import check_files
from tests.test_engine.tiny import tiny_config


def files() -> dict[str, Any]:
    return render_state(dict(model=dict(a=torch.ones(3)), meta=dict(iter=1)), {})


def test_states_hold_the_bytes_of_their_step(work_dir: Path) -> None:
    written = {}
    for kind in (Saver, BackgroundSaver):
        hook = dict(type=CheckpointHook, interval=1, keep_last=10, saver=dict(type=kind))
        config = tiny_config(work_dir / kind.__name__, custom_hooks=[dict(type=EMAHook), hook])
        # Evaluations put averages into the weights, which must not get into a state that is being written.
        config.update(val_benchmarks=['tiny'])
        runner = Runner.from_cfg(config)
        runner.train()
        states = sorted(runner.checkpoint_dir.glob('iter_*'))
        assert len(states) == 10
        for state in states:
            check_files(state)
        written[kind] = {
            f'{file.parent.name}/{file.name}': file.read_bytes()
            for state in states
            for file in state.glob('*.safetensors')
            if not file.name.startswith('message_hub')  # times
        }
        assert (runner.checkpoint_dir / 'latest').read_text() == 'iter_000010\n'
        meta = load_tree(states[0], 'meta')
        assert meta['order'] == dict(samples=20, global_batch=4, steps_per_epoch=5)
    assert written[Saver] == written[BackgroundSaver]


def test_training_goes_on_while_the_disk_is_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, done = threading.Event(), []

    def slow(folder: Path, files: Any, *, group: Any, copied: Any, done: Any) -> None:
        copied()
        assert disk.wait(10)
        done(folder)

    monkeypatch.setattr(savers, 'write_state', slow)
    saver = BackgroundSaver()
    saver.settle()  # nothing is on its way
    saver.save(tmp_path / 'iter_1', files(), done.append)
    saver.settle()  # the system has the bytes, the disk has not
    assert done == []
    disk.set()
    saver.finish()
    assert done == [tmp_path / 'iter_1']


def test_a_step_waits_until_the_weights_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = threading.Event()

    def slow(folder: Path, files: Any, *, group: Any, copied: Any, done: Any) -> None:
        assert taken.wait(10)
        copied()

    monkeypatch.setattr(savers, 'write_state', slow)
    saver = BackgroundSaver()
    saver.save(tmp_path / 'iter_1', files(), lambda path: None)
    step = threading.Thread(target=saver.settle)
    step.start()
    step.join(0.1)
    assert step.is_alive()
    taken.set()
    step.join(10)
    assert not step.is_alive()
    saver.finish()


def test_errors_of_the_background_are_raised_later(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / 'file').write_text('')
    saver = BackgroundSaver()
    saver.save(tmp_path / 'file' / 'iter_1', files(), lambda path: None)
    saver.settle()  # an error lets the training go on, too
    with pytest.raises(CheckpointError, match='was not written'):
        saver.save(tmp_path / 'iter_2', files(), lambda path: None)
    assert 'was not written' in capsys.readouterr().out
    saver.save(tmp_path / 'file' / 'iter_3', files(), lambda path: None)
    with pytest.raises(CheckpointError, match='iter_3 was not written'):
        saver.finish()
    saver.finish()  # told once


def test_no_process_leaves_before_the_first_has_moved_the_pointers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the second of two processes, which hears in the fourth meeting what went wrong with the first."""
    meetings: list[str | None] = []

    def gather(own: str | None, group: Any) -> list[str | None]:
        meetings.append(own)
        return ['old states cannot be deleted' if len(meetings) == 4 else None, own]

    monkeypatch.setattr(checkpoint, 'get_rank', lambda: 1)
    monkeypatch.setattr(checkpoint, 'all_gather_object', gather)
    (tmp_path / '.iter_1.unfinished').mkdir()  # by the first
    with pytest.raises(CheckpointError, match='old states cannot be deleted'):
        write_state(tmp_path / 'iter_1', files(), done=lambda folder: pytest.fail('not by this process'))
    assert meetings == [None] * 4


def test_what_follows_a_state_may_fail_too(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        raise OSError(errno.EACCES, 'not allowed')

    with pytest.raises(CheckpointError, match='not allowed'):
        Saver().save(tmp_path / 'iter_1', files(), fail)
    check_files(tmp_path / 'iter_1')


def test_a_large_state_may_take_longer_than_a_collective(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[dict[str, Any]] = []
    monkeypatch.setattr(patience, 'get_world_size', lambda: 2)
    monkeypatch.setattr(patience.dist, 'new_group', lambda **options: made.append(options))
    monkeypatch.setattr(savers, 'write_state', lambda folder, files, **_: None)
    saver = BackgroundSaver()
    for number in (1, 2):
        saver.save(tmp_path / f'iter_{number}', files(), lambda path: None)
    saver.finish()
    (options,) = made  # one group for all states
    assert options['backend'] == 'gloo' and options['timeout'].total_seconds() > 4 * 3600
