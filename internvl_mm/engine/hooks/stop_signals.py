"""A run that is asked to stop saves first: Ctrl-C, and what schedulers send before they kill."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import all_reduce, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import FlexibleRunner

from internvl_mm.registry import HOOKS
from internvl_mm.utils.checks import check_counts
from internvl_mm.utils.console import console

from ._runner import completes_update
from .checkpoint import CheckpointHook

# SIGUSR1 is what Slurm's --signal sends some time before the end of a job (tools/launch/slurm_batch.sh).
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@HOOKS.register_module()
class StopSignalHook(Hook):
    """On SIGTERM, SIGINT or SIGUSR1, saves a training state after the running step and exits with 128 + the signal.

    Where batches are accumulated, the step ends with their update. All processes stop after the same step, whichever
    was told. A second signal ends the process at once.

    Args:
        check_interval: Steps between asking the other processes; only counts when there are several.

    Raises:
        ConfigError: ``check_interval`` is less than 1, which would never ask.
    """

    priority = 'LOWEST'  # after whatever else belongs to the step

    def __init__(self, check_interval: int = 1):
        check_counts(check_interval=check_interval)
        self.check_interval = check_interval
        self._received = 0
        self._agreed = 0  # what all processes know of
        self._before: dict[signal.Signals, Any] = {}

    def before_train(self, runner: FlexibleRunner) -> None:
        """Listen."""
        self._before = {number: signal.signal(number, self._receive) for number in SIGNALS}

    def after_train(self, runner: FlexibleRunner) -> None:
        """Listen no longer."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def after_stop(self, runner: FlexibleRunner) -> None:
        """A run that ended with an error answers no signals: they are the caller's again."""
        self.after_train(runner)

    def after_train_iter(
        self, runner: FlexibleRunner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Save and exit, if a signal came to any process.

        Raises:
            SystemExit: With status 143 (SIGTERM), 130 (SIGINT) or 138 (SIGUSR1).
        """
        if not runner.distributed:
            self._agreed = self._received
        elif self.every_n_train_iters(runner, self.check_interval):
            # On the device: nccl reduces no tensors of the CPU.
            of_all = torch.tensor(self._received, device=get_device())
            all_reduce(of_all, 'max')
            self._agreed = int(of_all)
        # States hold no gradients: those of an accumulation would be missing from its update, which may end between
        # two times of asking.
        if not self._agreed or not completes_update(runner):
            return
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook):
                # By every process, since writing a state takes them all.
                hook.save_now(runner)
        if is_main_process():
            name = signal.Signals(self._agreed).name
            console.print(
                f'stopped by {name} after iteration {runner.iter + 1}; go on with --resume', highlight=False
            )
        raise SystemExit(128 + self._agreed)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        # A note alone: a signal may come within a step, when weights and optimiser do not match.
        self._received = number
        console.print(
            f'{signal.Signals(number).name}: saving after this step; send it again to stop at once',
            style='yellow',
        )
        # The next one is handled as if nobody listened.
        for known in SIGNALS:
            signal.signal(known, signal.SIG_DFL)
