"""Writes the report of the run."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import FlexibleRunner

from internvl_mm.evaluation.report import RUN, RunFacts
from internvl_mm.evaluation.report_html import write_report
from internvl_mm.registry import HOOKS
from internvl_mm.utils.disk import write_whole
from internvl_mm.utils.errors import DataError


@HOOKS.register_module()
class ReportHook(Hook):
    """Writes ``report.html`` into the run folder: after every validation, so that it can be watched, and at the end."""

    priority = 'LOWEST'  # when everything it shows is on disk

    def __init__(self) -> None:
        self._started: float | None = None

    def before_run(self, runner: FlexibleRunner) -> None:
        """Remember when the run began; testing after training belongs to the same run."""
        self._started = self._started or time.time()

    def after_val(self, runner: FlexibleRunner) -> None:
        """Bring the report up to date."""
        self._write(runner)

    def after_stop(self, runner: FlexibleRunner) -> None:
        """Show how far a run came that ended early."""
        if self._started is None:
            return  # it ended before it began
        try:
            self._write(runner)
        except (OSError, DataError) as error:
            # The disk is full, or the run ended before it left anything to show: why it ended is the error to be told.
            runner.logger.warning(f'the report was not brought up to date: {error}')

    def after_run(self, runner: FlexibleRunner) -> None:
        """Write the report and say where it is."""
        self._write(runner)
        runner.logger.info(f'report: {Path(runner.log_dir) / "report.html"}')

    def _write(self, runner: FlexibleRunner) -> None:
        # Everything it shows was gathered before, so no other process is needed.
        if not is_main_process():
            return
        # Known once the model is built; a run stopped earlier has none.
        precision = getattr(runner.strategy, 'precision', None)
        facts = RunFacts(
            name=Path(runner.work_dir).name,
            started=time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(self._started)),
            seconds=round(time.time() - self._started, 1),
            strategy=f'{type(runner.strategy).__name__}, {runner.world_size} process'
            + ('es' if runner.world_size > 1 else ''),
            precision=precision.name if precision else '',
        )
        write_whole(Path(runner.log_dir) / RUN, json.dumps(asdict(facts), indent=1))
        write_report(runner.log_dir)
