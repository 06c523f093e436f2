"""How training states get to the disk: while the training waits, or in the background."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from internvl_mm.registry import SAVERS
from internvl_mm.utils.console import console
from internvl_mm.utils.errors import CheckpointError

from .checkpoint import write_state
from .patience import patient_group
from .trees import Files

Done = Callable[[Path], None]


@SAVERS.register_module()
class Saver:
    """Writes a training state while the training waits; the base of other ways."""

    def save(self, folder: Path, files: Files, done: Done) -> None:
        """Write a state; called by every process.

        Args:
            folder: The state's folder.
            files: This process's files; their tensors may be the live ones of model and optimiser, which change in
                optimiser steps only, and not before :meth:`settle` returned.
            done: Called by the first process with the folder, once the state is complete on the disk.

        Raises:
            CheckpointError: It cannot be written; also, an earlier one could not be.
        """
        write_state(folder, files, done=done)

    def settle(self) -> None:
        """Wait until live tensors may change."""

    def finish(self) -> None:
        """Wait until every state is on the disk.

        Raises:
            CheckpointError: One could not be written.
        """


@SAVERS.register_module()
class BackgroundSaver(Saver):
    """Writes a state in a thread while the training goes on with the next forward and backward pass.

    No copy of the state is made: weights and optimiser states change in optimiser steps only, so they are read where
    they are, and the next step waits until the system has taken them (its page cache, not yet the disk). Syncing,
    hashing and renaming follow while the training runs. One state is on its way at a time; the next waits for it. The
    training is held up for at most one write into memory, whatever the disk does.

    Whoever changes weights elsewhere calls :meth:`settle` first; :class:`CheckpointHook` does so before optimiser
    steps and evaluations.
    """

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._group: Any = None
        self._running: Future[None] | None = None
        self._copied = threading.Event()
        self._copied.set()

    def save(self, folder: Path, files: Files, done: Done) -> None:
        """See :meth:`Saver.save`; an error of this state is raised by the next call or by :meth:`finish`."""
        # One state at a time: bounds what is unwritten, and raises what went wrong with the last one.
        self.finish()
        if self._thread is None:
            # Not a daemon: the interpreter waits for it at its end, also after an exception.
            self._thread = ThreadPoolExecutor(1, thread_name_prefix='saver')
            # A group of its own: meetings of two threads in one group would take each other's messages.
            self._group = patient_group()
        self._copied.clear()
        self._running = self._thread.submit(self._write, folder, files, done)

    def settle(self) -> None:
        """Wait until the system has taken the state."""
        self._copied.wait()

    def finish(self) -> None:
        """Wait for the state on its way, if there is one."""
        # Taken first: an error is told once, and the next state can be written.
        running, self._running = self._running, None
        if running is not None:
            running.result()  # raises what went wrong there

    def _write(self, folder: Path, files: Files, done: Done) -> None:
        try:
            write_state(folder, files, group=self._group, copied=self._copied.set, done=done)
        except CheckpointError as error:
            # At once, too: the training may end by another error before anybody asks.
            console.print(str(error), style='red', highlight=False)
            raise
