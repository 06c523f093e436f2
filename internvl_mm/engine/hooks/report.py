"""Writes the report of the run."""

from __future__ import annotations

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import FlexibleRunner

from internvl_mm.evaluation.report_html import write_report
from internvl_mm.registry import HOOKS


@HOOKS.register_module()
class ReportHook(Hook):
    """Writes ``report.html`` into the run folder: after every validation, so that it can be watched, and at the end."""

    priority = 'LOWEST'  # when everything it shows is on disk

    def after_val(self, runner: FlexibleRunner) -> None:
        """Bring the report up to date."""
        if is_main_process():
            write_report(runner.log_dir)

    def after_run(self, runner: FlexibleRunner) -> None:
        """Write the report and say where it is."""
        if is_main_process():
            runner.logger.info(f'report: {write_report(runner.log_dir)}')
