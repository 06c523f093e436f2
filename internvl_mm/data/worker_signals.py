"""Processes that load data leave signals to the run they work for."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass

from torch.utils.data import DataLoader


@dataclass
class DeafWorker:
    """What a worker of a data loader does when it starts: close its ears, then what it was to do anyway.

    Slurm sends SIGTERM or SIGUSR1 to every process of a job, a terminal Ctrl-C to every process in front. A worker that
    dies of it takes along the run, which was about to save.

    Args:
        then: The loader's own ``worker_init_fn``.
    """

    then: Callable[[int], None] | None = None

    def __call__(self, number: int) -> None:
        """Start worker ``number``."""
        parent = multiprocessing.parent_process()
        if parent is not None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        # Without sigwaitinfo, as on macOS, nobody could tell whose SIGTERM it is.
        if parent is not None and hasattr(signal, 'sigwaitinfo'):
            # Blocked here and in threads to come, so that the one below is given it.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            threading.Thread(target=_end_for, args=(parent.pid,), daemon=True).start()
        if self.then is not None:
            self.then(number)


def deafen_workers(loader: DataLoader) -> DataLoader:
    """Let workers of a loader end for the process that uses it alone; of a scheduler's signals that one decides."""
    loader.worker_init_fn = DeafWorker(loader.worker_init_fn)
    return loader


def _end_for(parent: int | None) -> None:
    # torch ends a worker that does not answer by SIGTERM.
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
