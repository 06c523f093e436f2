"""Live progress on terminals; elsewhere the lines of mmengine's LoggerHook are the progress."""

from __future__ import annotations

import atexit
import logging
import sys
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import FlexibleRunner
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from internvl_mm.registry import HOOKS
from internvl_mm.utils import console as terminal

# How the lines of LoggerHook begin.
_REPLACED = ('Epoch(', 'Iter(', 'Exp name:')


@HOOKS.register_module()
class ProgressHook(Hook):
    """A bar with epoch, iteration, loss, learning rate, images/s and remaining time; evaluations show their own.

    Goes together with mmengine's LoggerHook, which writes the log file and the scalars. Without an interactive
    terminal this hook does nothing, and LoggerHook's lines show as they are.
    """

    priority = 'LOW'  # after the hooks that compute what is shown

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._handlers: list[logging.StreamHandler] = []

    def before_train(self, runner: FlexibleRunner) -> None:
        """Take over the terminal."""
        if not (is_main_process() and terminal.console.is_interactive):
            return
        self._progress = Progress(
            TextColumn('{task.description}', markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn('{task.fields[numbers]}'),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=terminal.console,
        )
        # runner.iter is above 0 in a resumed run.
        self._progress.add_task('train', total=runner.max_iters, completed=runner.iter, numbers='')
        # For whoever trains without Runner.train, which calls after_stop: the cursor would stay hidden.
        atexit.register(self._progress.stop)
        self._handlers = [
            # Exactly this class: its child FileHandler must keep every line.
            handler
            for handler in runner.logger.handlers
            if type(handler) is logging.StreamHandler
        ]
        for handler in self._handlers:
            handler.addFilter(_is_news)
        self._resume()

    def before_val(self, runner: FlexibleRunner) -> None:
        """Make room for the bar of the evaluation."""
        self._pause()

    def after_val(self, runner: FlexibleRunner) -> None:
        """Show the training bar again."""
        self._resume()

    def after_train(self, runner: FlexibleRunner) -> None:
        """Give the terminal back."""
        if self._progress is None:
            return
        self._pause()
        atexit.unregister(self._progress.stop)
        for handler in self._handlers:
            handler.removeFilter(_is_news)
        self._progress, self._handlers = None, []

    def after_stop(self, runner: FlexibleRunner) -> None:
        """Give the terminal back, its cursor included, also after an error."""
        self.after_train(runner)

    def after_train_iter(
        self, runner: FlexibleRunner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Move the bar."""
        if self._progress is not None:
            # mmengine's loop by iterations says that it has one epoch.
            epoch = f'epoch {runner.epoch + 1}/{runner.max_epochs}' if runner.max_epochs > 1 else 'train'
            self._progress.update(
                self._progress.task_ids[0],
                description=epoch,
                completed=runner.iter + 1,
                numbers=_numbers(runner),
            )

    def _resume(self) -> None:
        if self._progress is not None:
            self._progress.start()
            self._redirect()

    def _pause(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._redirect()

    def _redirect(self) -> None:
        """Log to what is standard output now: a bar replaces it by a stream that writes above the bar."""
        for handler in self._handlers:
            handler.setStream(sys.stdout)


def _numbers(runner: FlexibleRunner) -> str:
    scalars = runner.message_hub.log_scalars
    # Mean of 20 iterations, as the throughput: single batches jump.
    parts = [f'loss {scalars["train/loss"].mean(20):.4f}'] if 'train/loss' in scalars else []
    if 'train/lr' in scalars:
        parts.append(f'lr {scalars["train/lr"].current():.2e}')
    if 'train/images_per_second' in scalars:
        parts.append(f'{scalars["train/images_per_second"].current():.0f} images/s')
    return '  '.join(parts)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether the terminal shows a log line: bars and tables replace those of LoggerHook, the log file keeps them."""
    return not record.getMessage().startswith(_REPLACED)
