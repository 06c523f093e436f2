"""A run in which nothing moves ends, and leaves what every process was doing."""

from __future__ import annotations

import faulthandler
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import FlexibleRunner

from internvl_mm.registry import HOOKS
from internvl_mm.utils.console import error_console
from internvl_mm.utils.door import RESUMABLE
from internvl_mm.utils.errors import ConfigError

LOOKS = 20  # times the watch looks within a timeout: it ends at most a twentieth late


@HOOKS.register_module()
class HangWatchHook(Hook):
    """Ends the process with status 75 when no step and no batch of an evaluation begins or ends for too long.

    Before that, the stacks of all threads go to ``stacks.rank<r>.txt`` in the run folder. When one of several processes
    stops, the others wait for it in their next reduction: every one of them then writes its own file, and the odd one
    out is the one that does not wait.

    Args:
        timeout: Seconds; more than the longest step, evaluation batch or save takes. ``torch.compile`` makes the first
            steps long.

    Raises:
        ConfigError: ``timeout`` is not positive.
    """

    priority = 'VERY_HIGH'  # a step has begun before other hooks work for it

    def __init__(self, timeout: float = 1800.0):  # seconds
        if timeout <= 0:
            raise ConfigError(f'HangWatchHook: timeout={timeout} must be positive, in seconds')
        self.timeout = timeout
        self._moved = 0.0  # time.monotonic() of the last sign of life
        self._end: threading.Event | None = None

    def before_train(self, runner: FlexibleRunner) -> None:
        """Start to watch."""
        self._moved, self._end = time.monotonic(), threading.Event()
        file = Path(runner.log_dir) / f'stacks.rank{runner.rank}.txt'
        # A thread, not a signal: a process that waits in a collective runs no handlers.
        threading.Thread(target=self._watch, args=(self._end, file), name='hang watch', daemon=True).start()

    def after_train(self, runner: FlexibleRunner) -> None:
        """Watch no longer."""
        self.after_stop(runner)

    def after_stop(self, runner: FlexibleRunner) -> None:
        """A run that ends with an error is not watched either."""
        if self._end is not None:
            self._end.set()

    def _before_iter(
        self, runner: FlexibleRunner, batch_idx: int, data_batch: Any = None, mode: str = 'train'
    ) -> None:
        self._moved = time.monotonic()

    def _after_iter(
        self,
        runner: FlexibleRunner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
        mode: str = 'train',
    ) -> None:
        self._moved = time.monotonic()

    def before_save_checkpoint(self, runner: FlexibleRunner, checkpoint: dict) -> None:
        """Writing takes its time, too."""
        self._moved = time.monotonic()

    def _watch(self, end: threading.Event, file: Path) -> None:
        while not end.wait(self.timeout / LOOKS):
            idle = time.monotonic() - self._moved
            if idle >= self.timeout:
                write_stacks(file, idle)
                error_console.print(
                    f'nothing moved for {idle:.0f} s: what each thread was doing is in {file}, and the other processes '
                    'wrote theirs beside it. Go on with --resume; raise default_hooks.hang.timeout if a step may take '
                    'so long',
                    style='red',
                    highlight=False,
                    soft_wrap=True,
                )
                # Not sys.exit: the main thread would be waited for.
                os._exit(RESUMABLE)


def write_stacks(file: Path, idle: float) -> None:
    """Write what every thread of this process is doing, by Python's faulthandler."""
    with open(file, 'w', encoding='utf-8') as stacks:
        stacks.write(f'process {os.getpid()} on {socket.gethostname()}, nothing moved for {idle:.1f} s\n\n')
        stacks.flush()  # faulthandler writes to the descriptor, past this buffer
        faulthandler.dump_traceback(stacks, all_threads=True)
