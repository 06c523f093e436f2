"""Faults in a running training, each injected by the doctor's own check; and that the checks would notice."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from internvl_mm.engine.doctor import runs
from internvl_mm.engine.doctor.trial import Kick, next_worker, run, trial
from internvl_mm.engine.hooks import HangWatchHook, NonFiniteHook
from internvl_mm.engine.steps import BatchTooLargeError, HalvingStep
from internvl_mm.utils.door import RESUMABLE, run_door
from internvl_mm.utils.errors import ConfigError


def test_bad_samples_of_twelve_kinds(tmp_path: Path) -> None:
    assert len(runs.SPOIL) == 12
    assert runs.bad_samples(tmp_path) == (
        '12 kinds among 1200 pictures: each in the ledger, 20 losses unchanged'
    )


def test_a_kind_that_is_not_noticed_would_be_found(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(runs.SPOIL, 'zeros', lambda path: None)
    with pytest.raises(AssertionError, match=r"it misses \['zeros'\]"):
        runs.bad_samples(tmp_path, 120)


def test_nan(tmp_path: Path, monkeypatch) -> None:
    assert runs.not_a_number(tmp_path).startswith('NaN in loss and gradient skipped')
    monkeypatch.setattr(NonFiniteHook, 'before_train', lambda hook, runner: None)
    with pytest.raises(AssertionError, match='the steps that changed weights|a weight is not finite'):
        runs.not_a_number(tmp_path)


def test_out_of_memory(tmp_path: Path) -> None:
    assert 'told with its samples; in halves, 6 steps end within' in runs.out_of_memory(tmp_path)


def test_half_a_batch_may_be_too_large_too(tmp_path: Path) -> None:
    with (
        runs.limited_memory(1),
        pytest.raises(BatchTooLargeError, match='out of memory in a step of 4 samples'),
    ):
        run(trial(tmp_path, step=dict(type=HalvingStep)))


def test_what_cannot_be_halved_is_told(tmp_path: Path) -> None:
    config = trial(tmp_path, step=dict(type=HalvingStep))
    config['optim_wrapper']['accumulative_counts'] = 2
    with runs.limited_memory(3), pytest.raises(BatchTooLargeError, match='accumulative_counts'):
        run(config)
    norm = trial(tmp_path, step=dict(type=HalvingStep))
    norm['model']['head']['norm'] = 'batch'
    with runs.limited_memory(3), pytest.raises(BatchTooLargeError):
        run(norm)


def test_other_errors_are_not_taken_for_a_lack_of_memory(tmp_path: Path, monkeypatch) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError('shapes differ')

    monkeypatch.setattr(runs.ImageClassifier, 'loss', fail)
    for step in (None, dict(type=HalvingStep)):
        with pytest.raises(RuntimeError, match='shapes differ'):
            run(trial(tmp_path, step=step))


def test_a_stop_signal(tmp_path: Path) -> None:
    assert runs.stop_signal(tmp_path) == 'SIGTERM in step 3: saved after it, status 143'


def test_a_dead_worker_ends_the_command(tmp_path: Path, capsys) -> None:
    assert 'DataLoader worker (pid' in runs.dead_worker(tmp_path)
    config = trial(tmp_path, workers=1)
    config['train_dataloader']['dataset']['length'] = 200
    kill = Kick(signal.SIGKILL, 2, next_worker())
    assert run_door(lambda: run(config, kill)) == RESUMABLE
    shown = capsys.readouterr().err
    assert 'DataLoader worker (pid' in shown and 'Lower train_dataloader.num_workers' in shown
    with pytest.raises(RuntimeError, match='something else'):
        run_door(lambda: (_ for _ in ()).throw(RuntimeError('something else')))


def test_a_hang(tmp_path: Path) -> None:
    assert runs.hang(tmp_path) == 'ended after 0.5 s with status 75 and its stacks'
    with pytest.raises(ConfigError, match='timeout=0 must be positive'):
        HangWatchHook(0)
