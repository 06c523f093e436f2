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
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from internvl_mm.registry import HOOKS
from internvl_mm.utils import console as terminal

# Lines of LoggerHook that the bar replaces on the terminal; the log file keeps them.
_REPLACED = ('Epoch(', 'Iter(', 'Exp name:')


@HOOKS.register_module()
class ProgressHook(Hook):
    """A bar with epoch, iteration, loss, learning rate, images/s and remaining time, one more bar during evaluation.

    Goes together with mmengine's LoggerHook, which writes the log file and the scalars. Without an interactive
    terminal this hook does nothing, and LoggerHook's lines show as they are.
    """

    priority = 'LOW'  # after the hooks that compute what is shown

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._bars: dict[str, TaskID] = {}
        self._handlers: list[logging.StreamHandler] = []

    def before_run(self, runner: FlexibleRunner) -> None:
        """Take over the terminal."""
        if not (is_main_process() and terminal.console.is_interactive):
            return
        self._progress = Progress(
            TextColumn('{task.description}'),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn('{task.fields[numbers]}'),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=terminal.console,
        )
        self._progress.start()
        # An exception skips after_run; without this the terminal's cursor would stay hidden.
        atexit.register(self._progress.stop)
        # The logger holds the stream from before the bar; the present one writes above it.
        self._handlers = [
            handler for handler in runner.logger.handlers if type(handler) is logging.StreamHandler
        ]
        for handler in self._handlers:
            handler.setStream(sys.stdout)
            handler.addFilter(_is_news)

    def after_run(self, runner: FlexibleRunner) -> None:
        """Give the terminal back."""
        if self._progress is None:
            return
        self._progress.stop()
        atexit.unregister(self._progress.stop)
        for handler in self._handlers:
            handler.setStream(sys.stdout)
            handler.removeFilter(_is_news)
        self._progress, self._bars, self._handlers = None, {}, []

    def after_train_iter(
        self, runner: FlexibleRunner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Move the training bar."""
        if self._progress is not None:
            self._show(
                'train',
                f'epoch {runner.epoch + 1}/{runner.max_epochs}' if runner.max_epochs > 1 else 'train',
                done=runner.iter + 1,
                total=runner.max_iters,
                numbers=_numbers(runner),
            )

    def _before_epoch(self, runner: FlexibleRunner, mode: str = 'train') -> None:
        if mode != 'train' and mode in self._bars and self._progress is not None:
            self._progress.remove_task(self._bars.pop(mode))

    def _after_iter(
        self,
        runner: FlexibleRunner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
        mode: str = 'train',
    ) -> None:
        if self._progress is not None:
            loader = runner.val_dataloader if mode == 'val' else runner.test_dataloader
            self._show(mode, 'evaluate', done=batch_idx + 1, total=len(loader))

    def _show(self, bar: str, description: str, *, done: int, total: int, numbers: str = '') -> None:
        if bar not in self._bars:
            self._bars[bar] = self._progress.add_task(description, numbers='')
        self._progress.update(
            self._bars[bar], description=description, completed=done, total=total, numbers=numbers
        )


def _numbers(runner: FlexibleRunner) -> str:
    scalars = runner.message_hub.log_scalars
    parts = [f'loss {scalars["train/loss"].mean(20):.4f}'] if 'train/loss' in scalars else []
    if 'train/lr' in scalars:
        parts.append(f'lr {scalars["train/lr"].current():.2e}')
    if 'train/images_per_second' in scalars:
        parts.append(f'{scalars["train/images_per_second"].current():.0f} images/s')
    return '  '.join(parts)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a log line tells more than the bar: results of an evaluation do, single iterations do not."""
    text = record.getMessage()
    return not text.startswith(_REPLACED) or ('train' not in text and '/top' in text)
