"""Image size and patch masking that change during training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import FlexibleRunner

from internvl_mm.registry import HOOKS
from internvl_mm.utils.checks import check_counts, check_shares
from internvl_mm.utils.errors import ConfigError

from ._runner import task_of


@dataclass(frozen=True)
class _Stage:
    begin: int
    size: int
    mask: float


@HOOKS.register_module()
class ResolutionSchedule(Hook):
    """Sets ``training_size`` and ``mask`` of a task before each iteration.

    A function of the iteration alone, so that a resumed run goes on where it was.

    Args:
        stages: ``(begin, size, mask)`` in order: from which iteration, side of the images in pixels, share of the
            patches left out. The first begins at 0. Published: ``(0, 196, 0.5)``, then 224 pixels without masking for
            the last 0.5 of 28.7 billion pairs.

    Raises:
        ConfigError: Stages out of order, or values that cannot be.
    """

    priority = 'VERY_HIGH'

    def __init__(self, stages: Sequence[tuple[int, int, float]]):
        self.stages = [_Stage(*stage) for stage in stages]
        for stage in self.stages:
            check_counts(size=stage.size)
            check_shares(mask=stage.mask)
        # sorted(set()): two stages that begin together would leave one of them without effect.
        begins = [stage.begin for stage in self.stages]
        if not begins or begins[0] != 0 or begins != sorted(set(begins)):
            raise ConfigError(f'stages={tuple(stages)}: they begin at 0 and follow one another in time')

    def before_train(self, runner: FlexibleRunner) -> None:
        """Refuse tasks whose images cannot change.

        Raises:
            ConfigError: The task has no ``training_size``, or a size is no multiple of the patch.
        """
        task = task_of(runner)
        if not hasattr(task, 'training_size'):
            raise ConfigError(
                f'ResolutionSchedule needs a task with training_size, such as ContrastivePretraining; '
                f'{type(task).__name__} has none'
            )
        for stage in self.stages:
            # Before the first step, not when the stage begins: that may be days later.
            if stage.size % task.backbone.patch_size:
                raise ConfigError(
                    f'size={stage.size} is no multiple of patch_size={task.backbone.patch_size}'
                )

    def before_train_iter(self, runner: FlexibleRunner, batch_idx: int, data_batch: Any = None) -> None:
        """Apply the stage of this iteration."""
        # Attributes of the task, not of its data: workers have read ahead already, and resizing happens on the device.
        stage = self.at(runner.iter)
        task = task_of(runner)
        task.training_size, task.mask = stage.size, stage.mask

    def at(self, iteration: int) -> _Stage:
        """The stage of an iteration."""
        # Never empty: the first stage begins at 0.
        return [stage for stage in self.stages if stage.begin <= iteration][-1]
