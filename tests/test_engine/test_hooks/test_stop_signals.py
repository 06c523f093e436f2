"""A run that is told to stop saves first, and goes on from there with the same numbers."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mmengine.hooks import Hook

from internvl_mm.engine.hooks import CheckpointHook, StopSignalHook
from internvl_mm.engine.runner import Runner
from internvl_mm.engine.strategies.launch import join_group
from internvl_mm.utils.errors import ConfigError
from tests.test_engine.tiny import LossRecorder, tiny_config


class Kick(Hook):
    """Sends a signal to its own process in the middle of a step."""

    def __init__(self, number: int, iteration: int):
        self.number, self.iteration = number, iteration

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        if runner.iter + 1 == self.iteration:
            os.kill(os.getpid(), self.number)


def train(work_dir: Path, *hooks: Hook, **changes: Any) -> list[float]:
    recorder = LossRecorder()
    own = [dict(type=CheckpointHook), dict(type=StopSignalHook)]
    runner = Runner.from_cfg(tiny_config(work_dir, custom_hooks=own, **changes))
    for hook in (recorder, *hooks):
        runner.register_hook(hook)
    try:
        runner.train()
    except SystemExit as stop:
        recorder.losses.append(stop.code)
    return recorder.losses


@pytest.mark.parametrize(('number', 'status'), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_step_is_finished_saved_and_resumed(tmp_path: Path, number: int, status: int) -> None:
    handlers = [signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)]
    whole = train(tmp_path / 'whole')
    *first, code = train(tmp_path / 'split', Kick(number, 4))
    assert code == status
    assert first == whole[:4]
    assert [path.name for path in (tmp_path / 'split').glob('*/checkpoints/iter_*')] == ['iter_000004']
    assert first + train(tmp_path / 'split', resume=True) == whole
    assert [signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)] == handlers


def test_the_second_signal_is_nobodys(tmp_path: Path) -> None:
    hook = StopSignalHook()
    hook.before_train(None)
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) == signal.getsignal(signal.SIGINT) == signal.SIG_DFL
    finally:
        hook.after_train(None)


def test_a_signal_to_every_process_of_a_job_still_saves(tmp_path: Path) -> None:
    class KickAll(Kick):
        def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
            if runner.iter + 1 == self.iteration:
                workers = [str(worker.pid) for worker in multiprocessing.active_children()]
                assert len(workers) == 2
                # Workers first, from another process, as Slurm does.
                subprocess.run(['kill', f'-{self.number}', *workers, str(os.getpid())], check=True)

    loader = dict(tiny_config(tmp_path)['train_dataloader'], num_workers=2)
    *losses, code = train(tmp_path / 'split', KickAll(signal.SIGTERM, 4), train_dataloader=loader)
    assert (len(losses), code) == (4, 143)
    assert [path.name for path in (tmp_path / 'split').glob('*/checkpoints/iter_*')] == ['iter_000004']


def test_a_step_ends_with_its_update(tmp_path: Path) -> None:
    wrapper = dict(tiny_config(tmp_path)['optim_wrapper'], accumulative_counts=2)
    whole = train(tmp_path / 'whole', optim_wrapper=wrapper)
    *first, code = train(tmp_path / 'split', Kick(signal.SIGTERM, 3), optim_wrapper=wrapper)
    assert code == 143
    assert [path.name for path in (tmp_path / 'split').glob('*/checkpoints/iter_*')] == ['iter_000004']
    assert first + train(tmp_path / 'split', optim_wrapper=wrapper, resume=True) == whole


def test_an_update_ends_the_run_also_between_two_times_of_asking() -> None:
    join_group('none')
    hook = StopSignalHook(check_interval=3)
    hook._received = signal.SIGTERM
    runner = SimpleNamespace(distributed=True, hooks=[], iter=0, optim_wrapper=SimpleNamespace())
    # Asked after step 3, in the middle of an update that ends with step 4.
    runner.optim_wrapper.should_update = lambda: (runner.iter + 1) % 4 == 0
    with pytest.raises(SystemExit):
        for runner.iter in range(12):
            hook.after_train_iter(runner, runner.iter)
    assert runner.iter + 1 == 4


def test_an_interval_that_never_asks_is_refused() -> None:
    with pytest.raises(ConfigError, match='check_interval=0 is not possible'):
        StopSignalHook(check_interval=0)
