"""Keeps account of samples that could not be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import FlexibleRunner

from internvl_mm.data.ledger import Ledger
from internvl_mm.registry import HOOKS
from internvl_mm.utils.errors import ConfigError


@HOOKS.register_module()
class BadSampleHook(Hook):
    """Takes ``bad_samples`` out of every batch, writes them to ``bad_samples.jsonl`` in the run folder.

    Each process keeps its own account and its own file.

    Args:
        max_fraction: Largest share of bad samples among all samples seen; beyond it the run stops.
        patience: So many bad samples are forgiven before the share counts.

    Raises:
        ConfigError: ``max_fraction`` is no share, or ``patience`` is negative.
    """

    priority = 'VERY_HIGH'  # before any hook that looks into the batch

    def __init__(self, max_fraction: float = 0.001, patience: int = 50):
        if not 0 <= max_fraction <= 1:
            raise ConfigError(f'BadSampleHook: max_fraction={max_fraction} must be from 0 to 1')
        if patience < 0:
            raise ConfigError(f'BadSampleHook: patience={patience} must be 0 or more samples')
        self.max_fraction = max_fraction
        self.patience = patience
        self._ledger: Ledger | None = None

    def before_run(self, runner: FlexibleRunner) -> None:
        """Open the account of this run."""
        # Two processes that append to one file would mix their lines.
        name = 'bad_samples.jsonl' if runner.rank == 0 else f'bad_samples_rank{runner.rank}.jsonl'
        self._ledger = Ledger(
            Path(runner.log_dir) / name, max_fraction=self.max_fraction, patience=self.patience
        )

    def _before_iter(
        self, runner: FlexibleRunner, batch_idx: int, data_batch: Any = None, mode: str = 'train'
    ) -> None:
        bad_samples = data_batch.pop('bad_samples', ())
        # A bad sample that was replaced counts twice here; at the rates allowed that changes nothing.
        self._ledger.update(bad_samples, len(data_batch['inputs']) + len(bad_samples))
