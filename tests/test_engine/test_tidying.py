"""What earlier starts of a training leave: deleted where it is in the way, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from internvl_mm.engine import checkpoint
from internvl_mm.engine.hooks import CheckpointHook
from internvl_mm.engine.runner import Runner
from internvl_mm.engine.tidying import ancestors_of, prune_ancestors, remove_leftovers
from internvl_mm.utils.errors import CheckpointError
from internvl_mm.utils.process import _state_and_start, this_process
from internvl_mm.utils.states import MANIFEST, find_states, latest_state, state_position
from tests.test_engine.tiny import StopTraining, tiny_config


def add_states(work_dir: Path, run: str, *numbers: int, **pointers: str) -> Path:
    folder = work_dir / run / 'checkpoints'
    for number in numbers:
        state = folder / f'iter_{number:06d}'
        state.mkdir(parents=True)
        (state / MANIFEST).write_text('{}')
    for pointer, name in pointers.items():
        (folder / pointer).write_text(name + '\n')
    return folder


def states(work_dir: Path) -> dict[str, list[int]]:
    runs = sorted(path for path in work_dir.glob('*/checkpoints') if path.is_dir())
    return {run.parent.name: sorted(state_position(state) for state in find_states(run)) for run in runs}


def test_ancestors_are_where_a_run_comes_from(tmp_path: Path) -> None:
    state = add_states(tmp_path, 'b', 20) / 'iter_000020'
    known = [['a', 'iter_000010'], ['b', 'iter_000015']]
    assert ancestors_of(state, known, tmp_path) == [['a', 'iter_000010'], ['b', 'iter_000020']]
    assert ancestors_of(None, known, tmp_path) == []
    assert ancestors_of(state, known, tmp_path / 'other') == [], (
        'a state of another work_dir is not ours to delete'
    )
    assert ancestors_of(state, known, tmp_path / 'b') == []


def test_only_states_that_training_passed_through_are_deleted(tmp_path: Path) -> None:
    add_states(tmp_path, 'stranger', 5, 10)
    # 30 was given up: the run after it went back to 20.
    add_states(tmp_path, 'a', 10, 20, 30, latest='iter_000020')
    add_states(tmp_path, 'b', 22, 24, 26, latest='iter_000026', best='iter_000022')
    own = add_states(tmp_path, 'c', 28, latest='iter_000028')
    (tmp_path / 'b/checkpoints/epoch_2').mkdir()
    (tmp_path / 'b/checkpoints/epoch_2' / MANIFEST).write_text('{}')
    ancestors = [['a', 'iter_000020'], ['b', 'iter_000026']]
    outside = add_states(tmp_path.parent / f'{tmp_path.name}_outside', 'd', 1)
    (tmp_path / 'linked').symlink_to(outside.parent)
    ancestors = [
        ['linked', 'iter_000009'],
        [f'../{tmp_path.name}_outside/d', 'iter_000009'],
        ['gone', 'iter_1'],
        *ancestors,
    ]
    doomed = prune_ancestors(tmp_path, own, ancestors, keep_last=3)
    assert sorted(path.name for path in doomed) == ['iter_000010', 'iter_000020']
    assert not (tmp_path / 'a/checkpoints/latest').exists() and (tmp_path / 'b/checkpoints/latest').exists()
    # In all three: 24, 26 and the run's own; 22 is the best of its folder.
    assert len(find_states(tmp_path / 'b/checkpoints')) == 4
    doomed = prune_ancestors(tmp_path, own, ancestors, keep_last=1, best=('b', 'iter_000024'))
    assert [path.name for path in doomed] == ['iter_000026']
    names = {state.name for state in find_states(tmp_path / 'b/checkpoints')}
    assert names == {'iter_000022', 'iter_000024', 'epoch_2'}
    assert find_states(outside) and states(tmp_path)['stranger'] == [5, 10] and states(tmp_path)['a'] == [30]


class StopAt:
    """What ends a start of the training; its folder then gets the time of an earlier day."""

    def __init__(self, work_dir: Path):
        self.work_dir, self.starts = work_dir, 0

    def __call__(self, iteration: int, **changes: Any) -> Path:
        hook = dict(type=CheckpointHook, interval=1, keep_last=2)
        config = dict(tiny_config(self.work_dir, custom_hooks=[hook], **changes), log_level='INFO')
        runner = Runner.from_cfg(config)

        def step(*_: Any, **__: Any) -> None:
            if runner.iter + 1 == iteration:
                saver.finish()
                raise StopTraining

        checkpoints = next(each for each in runner.hooks if isinstance(each, CheckpointHook))
        saver, save = checkpoints.saver, checkpoints.after_train_iter
        checkpoints.after_train_iter = lambda *given, **named: (save(*given, **named), step())
        with pytest.raises(StopTraining):
            runner.train()
        self.starts += 1
        # Two starts within a second would share a folder.
        return Path(runner.log_dir).rename(self.work_dir / f'20200101_00000{self.starts}')


def test_a_training_that_is_stopped_again_and_again_keeps_as_many_states(tmp_path: Path) -> None:
    start = StopAt(tmp_path)
    first = start(3)
    assert states(tmp_path) == {first.name: [2, 3]}
    second = start(4, resume=True)
    assert states(tmp_path) == {first.name: [3], second.name: [4]}
    third = start(6, resume=True)
    assert states(tmp_path) == {first.name: [], second.name: [], third.name: [5, 6]}
    # A state that was named is its owner's, and what comes from it counts for itself.
    fourth = start(7, resume=str(third / 'checkpoints' / 'iter_000005'))
    assert states(tmp_path)[third.name] == [5, 6] and states(tmp_path)[fourth.name] == [6, 7]
    fifth = start(9, resume=True)
    assert list(states(tmp_path).values()) == [[], [], [5, 6], [], [8, 9]]
    assert fifth.is_dir()


def test_folders_of_others_that_cannot_be_deleted_end_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    start = StopAt(tmp_path)
    first = start(3)
    remove = checkpoint.remove_tree

    def guarded(folder: Path) -> None:
        if first in folder.parents:
            raise PermissionError(13, 'not allowed')
        remove(folder)

    monkeypatch.setattr(checkpoint, 'remove_tree', guarded)
    second = start(5, resume=True)
    assert states(tmp_path)[second.name] == [4, 5]
    assert 'was not deleted' in ' '.join(capsys.readouterr().out.split())


def test_pointers_that_stay_or_are_damaged_end_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, own = add_states(tmp_path, 'a', 1, 2, latest='iter_000002'), add_states(tmp_path, 'b', 3, 4)
    with monkeypatch.context() as patch:

        def fail(path: Path, missing_ok: bool = False) -> None:
            raise PermissionError(13, 'not allowed')

        patch.setattr(Path, 'unlink', fail)
        # An error of this kind, which the hook tells and goes on after.
        with pytest.raises(CheckpointError, match='latest was not deleted .*make their folder writable'):
            prune_ancestors(tmp_path, own, [['a', 'iter_000002']], keep_last=2)
    assert len(find_states(folder)) == 2
    for pointer in ('best', 'latest'):
        (folder / pointer).write_bytes(b'\xff\xfe')
    assert state_position(latest_state(tmp_path / 'a')) in (1, 2)
    assert len(prune_ancestors(tmp_path, own, [['a', 'iter_000002']], keep_last=2)) == 2


def test_another_process_may_delete_the_same_states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a run does whose states a second start of the training goes on from."""
    folder = add_states(tmp_path, 'a', 1, 2, 3)
    remove = checkpoint.remove_tree

    def both(grave: Path) -> None:
        remove(grave)
        if (folder / 'iter_000002').exists():
            (folder / 'iter_000002').rename(folder / '.iter_000002.deleted')

    monkeypatch.setattr(checkpoint, 'remove_tree', both)
    checkpoint.prune(folder, keep_last=1)
    assert [state.name for state in find_states(folder)] == ['iter_000003']


def test_a_training_that_still_runs_keeps_its_states(tmp_path: Path) -> None:
    folder, own = add_states(tmp_path, 'a', 2, latest='iter_000002'), add_states(tmp_path, 'b', 3, 4)
    with subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE) as other:
        mark = dict(this_process(), pid=other.pid, started=_state_and_start(other.pid)[1])
        (tmp_path / 'a/environment.json').write_text(json.dumps(dict(process=mark)))
        assert prune_ancestors(tmp_path, own, [['a', 'iter_000002']], keep_last=2) == []
        assert latest_state(folder) == folder / 'iter_000002'
        other.communicate(b'\n')
    assert len(prune_ancestors(tmp_path, own, [['a', 'iter_000002']], keep_last=2)) == 1


def leave(run: Path, name: str, *, seconds: float = 0.0) -> Path:
    folder = run / 'checkpoints' / name
    folder.mkdir(parents=True)
    (folder / 'model.safetensors').write_bytes(b'half')
    for path in (folder / 'model.safetensors', folder):
        os.utime(path, (time.time() - seconds,) * 2)
    return folder


def test_leftovers_of_dead_writers_go_and_those_of_living_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = this_process()
    assert mark is not None
    marks = dict(live=mark, dead=dict(mark, started=0), far=dict(mark, boot='another machine'))
    for name, process in marks.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / 'environment.json').write_text(json.dumps(dict(process=process)))
    day = 90_000.0  # a little more
    stay = [
        leave(tmp_path / 'live', '.iter_000001.unfinished', seconds=day),
        leave(tmp_path / 'far', '.iter_000001.unfinished'),
        leave(tmp_path / 'old', '.iter_000001.unfinished'),  # of a version without marks
        leave(tmp_path / 'dead', '.iter_000003.replaced'),  # the only whole one
        leave(tmp_path / 'dead', '.mine.unfinished'),
        leave(tmp_path / 'dead', 'iter_000001.unfinished'),
        leave(tmp_path / 'own', '.iter_000001.unfinished', seconds=day),
        leave(tmp_path / 'own', '.iter_000002.deleted'),
    ]
    go = [
        leave(tmp_path / 'live', '.iter_000002.deleted'),
        leave(tmp_path / 'far', '.iter_000002.unfinished', seconds=day),
        leave(tmp_path / 'old', '.iter_000002.unfinished', seconds=day),
        leave(tmp_path / 'dead', '.iter_000001.unfinished'),
        leave(tmp_path / 'dead', '.epoch_1.deleted'),
        leave(tmp_path / 'dead', '.iter_000004.replaced'),
    ]
    add_states(tmp_path, 'dead', 4)
    removed, failed = remove_leftovers(tmp_path, tmp_path / 'own/checkpoints')
    assert sorted(removed) == sorted(go) and not failed
    assert all(path.is_dir() for path in stay) and not any(path.exists() for path in go)

    def fail(path: Path) -> None:
        raise PermissionError(13, 'not allowed')

    monkeypatch.setattr('internvl_mm.engine.tidying.remove_tree', fail)
    kept = leave(tmp_path / 'dead', '.iter_000009.unfinished')
    assert remove_leftovers(tmp_path, tmp_path / 'own/checkpoints') == ([], [kept])


def test_a_run_says_once_what_it_removes(tmp_path: Path) -> None:
    gone = leave(tmp_path / 'killed', '.iter_000001.unfinished', seconds=90_000.0)
    run = StopAt(tmp_path)(1)
    (log,) = run.glob('*.log')
    said = [line for line in log.read_text().splitlines() if 'killed runs' in line]
    assert not gone.exists() and len(said) == 1
    assert said[0].endswith(f'removed what killed runs left in {tmp_path}: killed/checkpoints/{gone.name}')
