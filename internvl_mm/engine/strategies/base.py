"""What all strategies share besides training states: processes, precision, learning-rate scaling."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import broadcast_object_list
from mmengine.optim import AmpOptimWrapper, BaseOptimWrapper, OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from internvl_mm.utils.errors import ConfigError, UserError
from internvl_mm.utils.precision import Choice, Precision, resolve_precision

from .launch import join_group
from .start import StartMixin
from .states import StateMixin

# Run folders of this process; mmengine keeps loggers and message hubs by this name for the life of a process.
_USED_NAMES: set[str] = set()


def _unused_name(work_dir: Path, name: str) -> str:
    """A name for a run folder that no run started in the same second has."""
    names = itertools.chain([name], (f'{name}_{number}' for number in itertools.count(1)))
    return next(name for name in names if name not in _USED_NAMES and not (work_dir / name).exists())


class StrategyMixin(StateMixin, StartMixin):
    """Comes before an mmengine strategy among the bases of ours.

    Parameters stay fp32; precision is the dtype the task's forward pass autocasts to.

    Args:
        precision: ``'auto'``, ``'fp32'``, ``'bf16'`` or ``'fp16'``; see :func:`resolve_precision`.
    """

    # Whether processes work together; if so, a single process founds a group of one.
    collective = True

    def __init__(self, *, precision: Precision = 'auto', **kwargs: Any):
        self._precision = precision
        self.precision: Choice | None = None
        super().__init__(**kwargs)

    # ---- processes and precision ----

    def _setup_env(self, *, launcher: str | None = None, dist_cfg: dict | None = None, **kwargs: Any) -> None:
        launcher = launcher or 'none'
        if self.collective:
            join_group(launcher, **(dist_cfg or {}))
        elif launcher != 'none':
            raise ConfigError(
                f'{type(self).__name__} is for one process, but launcher={launcher!r} starts several: '
                'take ddp, zero1, zero2 or zero3 from configs/_base_/strategies'
            )
        super()._setup_env(launcher=launcher, **kwargs)
        # The first process decides: clocks and file systems of several machines differ.
        names = [_unused_name(Path(self.work_dir), self._timestamp)]
        broadcast_object_list(names)
        self._timestamp = names[0]
        _USED_NAMES.add(names[0])

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build the model and tell it the compute dtype."""
        model = super().build_model(model)
        # On CPUs bf16 pays only in wide models.
        width = getattr(model, 'width', None)
        self.precision = resolve_precision(self._precision, device=get_device(), width=width)
        if hasattr(model, 'set_precision'):
            model.set_precision(self.precision.dtype)
        elif self.precision.dtype != torch.float32:
            if self._precision != 'auto':
                raise ConfigError(
                    f'precision={self._precision!r}: {type(model).__name__} has no set_precision; derive it from '
                    "internvl_mm.models.tasks.BaseTask or use 'fp32'"
                )
            self.precision = Choice(torch.float32, f'{type(model).__name__} has no set_precision')
        self.logger.info(f'precision: {self.precision.name} ({self._precision}: {self.precision.reason})')
        return model

    def build_optim_wrapper(self, optim_wrapper: Any, model: nn.Module | None = None) -> BaseOptimWrapper:
        """Build the optimiser; fp16 adds loss scaling.

        Raises:
            ConfigError: The optimiser refuses its settings.
        """
        if isinstance(optim_wrapper, dict) and self.precision is not None:
            kind = optim_wrapper.get('type', OptimWrapper)
            kind = OPTIM_WRAPPERS.get(kind) if isinstance(kind, str) else kind
            # fp16 gradients underflow without loss scaling; a wrapper of the user's own is left alone.
            if self.precision.dtype == torch.float16 and kind is OptimWrapper:
                optim_wrapper = dict(optim_wrapper, type=AmpOptimWrapper, dtype='float16')
        try:
            return super().build_optim_wrapper(optim_wrapper, model)
        except (UserError, torch.OutOfMemoryError):
            raise
        except (ValueError, RuntimeError, AssertionError) as error:
            # What optimisers of torch and timm, and mmengine's wrappers, raise: each knows its ranges, which settings
            # go together, and its devices.
            raise ConfigError(f'optim_wrapper: {error}; given is {optim_wrapper}') from error

    def build_param_scheduler(
        self, scheduler: Any, optim_wrapper: Any, default_args: dict | None = None
    ) -> Any:
        """Build the schedules.

        Raises:
            ConfigError: One refuses its settings.
        """
        try:
            return super().build_param_scheduler(scheduler, optim_wrapper, default_args)
        except UserError:
            raise
        # mmengine's schedules know their ranges, as optimisers do.
        except (ValueError, AssertionError) as error:
            raise ConfigError(f'param_scheduler: {error}; given is {scheduler}') from error

    def compile_model(self, model: nn.Module, compile: dict | bool = True) -> nn.Module:
        """Compile the model, if asked to.

        Raises:
            ConfigError: torch does not know the mode or the backend.
        """
        try:
            return super().compile_model(model, compile)
        except RuntimeError as error:
            raise ConfigError(f'compile={compile}: {error}') from error

    def _scale_lr(self) -> None:
        """Multiply learning rates by global batch / ``auto_scale_lr.base_batch_size``, accumulation included."""
        rule = self._auto_scale_lr
        if rule is None or not rule.get('enable', True):
            return
        per_process = self.dispatch_kwargs['train_micro_batch_size_per_gpu']
        global_batch = per_process * self.world_size * self._accumulation()
        ratio = global_batch / rule['base_batch_size']
        self.logger.info(
            f'learning rates x {ratio:g}: global batch {global_batch}, base {rule["base_batch_size"]}'
        )
        # Before schedulers are built, which take these as their base values.
        for group in self.optim_wrapper.optimizer.param_groups:
            group['lr'] *= ratio
