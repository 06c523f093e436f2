"""Several processes that share one copy of the optimiser, the gradients or the model: ZeRO 1, 2 and 3."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import deepspeed
import torch
from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
from mmengine._strategy import BaseStrategy
from mmengine._strategy.deepspeed import DeepSpeedOptimWrapper, MMDeepSpeedEngineWrapper
from mmengine.device import get_device
from mmengine.logging import MessageHub
from mmengine.optim import BaseOptimWrapper
from pydantic import ValidationError
from torch import Tensor, nn

from internvl_mm.engine.memory import Sharing
from internvl_mm.engine.optim import is_elementwise
from internvl_mm.engine.partition import Segment
from internvl_mm.registry import STRATEGIES
from internvl_mm.utils.errors import ConfigError, did_you_mean
from internvl_mm.utils.precision import Precision

from .launch import choose_backend
from .shares import SharesMixin
from .start import make_room
from .sync_bn import synchronise_batch_norms

# What DeepSpeed's engine counts: updates, samples, batches.
_COUNTERS = ('global_steps', 'global_samples', 'micro_steps')


def _whole(parameter: nn.Parameter, **options: Any) -> contextlib.AbstractContextManager:
    """Gather one parameter of ZeRO-3. Of several at once DeepSpeed waits for the last only, which is a race on gloo."""
    return deepspeed.zero.GatheredParameters([parameter], **options)


def _known(options: dict[str, Any]) -> dict[str, Any]:
    # DeepSpeed would find them as well, but only after the model was built.
    fields = DeepSpeedZeroConfig.model_fields
    for name in options:
        if name not in fields or name == 'stage':
            hint = did_you_mean(name, fields)
            raise ConfigError(f'strategy.options.{name} is no setting of zero_optimization.{hint}')
    try:
        DeepSpeedZeroConfig(**options)
    except ValidationError as error:
        raise ConfigError(f'strategy.options={options}: DeepSpeed refuses them: {error}') from error
    return options


class _OneByOne(nn.Module):
    """A model whose parameters get memory when DeepSpeed asks for the next, after it has cut the one before."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.__dict__['model'] = model  # no child: all of its parameters are asked for here

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """One after the other; DeepSpeed takes values from the first process."""
        for parameter in self.model.parameters(recurse):
            make_room(parameter)
            yield parameter


class ZeroOptimWrapper(DeepSpeedOptimWrapper):
    """Leaves backward pass, accumulation, clipping and step to DeepSpeed, and logs the gradient norm."""

    def update_params(self, loss: Tensor) -> None:
        """One batch; DeepSpeed decides whether it completes an update."""
        super().update_params(loss)
        norm = self.model.get_global_grad_norm()
        # None until the first update.
        if norm is not None:
            MessageHub.get_current_instance().update_scalar('train/grad_norm', float(norm))

    def should_update(self) -> bool:
        """Whether the last batch completed an update; asked after it, as of mmengine's wrappers."""
        return self.model.micro_steps % self.model.gradient_accumulation_steps() == 0

    def initialize_count_status(self, model: nn.Module, init_counts: int, max_counts: int) -> None:
        """DeepSpeed counts by itself."""


@STRATEGIES.register_module()
class DeepSpeedStrategy(SharesMixin, BaseStrategy):
    """Train in several processes with DeepSpeed's ZeRO; nothing is compiled.

    Parameters and optimiser states are fp32, half precisions run as torch autocast inside DeepSpeed, which then also
    communicates in them. ``clip_grad`` and ``accumulative_counts`` of the optimiser wrapper are handed on.

    Args:
        zero_stage: What is shared out: 1 optimiser states, 2 also gradients, 3 also parameters.
        offload: Keep the optimiser states, in stage 3 also the parameters, in main memory.
        precision: ``'auto'``, ``'fp32'``, ``'bf16'`` or ``'fp16'``.
        sync_batch_norm: Batch norms see the global batch.
        options: More settings of DeepSpeed's ``zero_optimization``, under its own names, such as
            ``zero_hpz_partition_size``.
        train_micro_batch_size_per_gpu: Batch size of a process; the runner gives it.

    Raises:
        ConfigError: An unknown stage, or options DeepSpeed does not know.

    Source: Rajbhandari et al. 2020, "ZeRO" (arXiv 1910.02054); Wang et al. 2023, "ZeRO++" (arXiv 2306.10209).
    """

    def __init__(
        self,
        *,
        zero_stage: Literal[1, 2, 3] = 1,
        offload: bool = False,
        precision: Precision = 'auto',
        sync_batch_norm: bool = True,
        options: dict[str, Any] | None = None,
        train_micro_batch_size_per_gpu: int = 1,
        **kwargs: Any,
    ):
        if zero_stage not in (1, 2, 3):
            raise ConfigError(
                f'zero_stage={zero_stage} is unknown: use 1, 2 or 3 (or DDPStrategy to share nothing)'
            )
        super().__init__(precision=precision, **kwargs)
        self.zero_stage = zero_stage
        self.sharing = Sharing(zero_stage, offload, 'deepspeed')
        self._options = _known(options or {})
        self._sync_batch_norm = sync_batch_norm
        self._batch_size = train_micro_batch_size_per_gpu
        self._clip_norm = 0.0
        self._accumulative_counts = 1

    def _setup_env(self, *, dist_cfg: dict | None = None, **kwargs: Any) -> None:
        super()._setup_env(dist_cfg=dist_cfg, **kwargs)
        os.environ.setdefault('LOCAL_RANK', '0')  # a single process has no launcher that says so
        backend = choose_backend((dist_cfg or {}).get('backend', 'auto'))
        # On CPUs DeepSpeed would compile an all-reduce in shared memory; without it gloo does the work.
        deepspeed.ops.__compatible_ops__['deepspeed_shm_comm'] = False
        deepspeed.init_distributed(dist_backend=backend, auto_mpi_discovery=False, verbose=False)

    def prepare(
        self,
        model: nn.Module | dict,
        *,
        optim_wrapper: Any = None,
        param_scheduler: Any = None,
        compile: dict | bool = False,
        dispatch_kwargs: dict | None = None,
    ) -> Any:
        """See mmengine's ``BaseStrategy.prepare``."""
        if self._prepared:
            return self._prepared_components()
        self.dispatch_kwargs.update(dispatch_kwargs or {})
        model = self._init_model_weights(self.build_model(model))
        if not self.shares_weights:
            model = model.to(get_device())
        if self._sync_batch_norm:
            model = synchronise_batch_norms(model)
        model = self.compile_model(model, compile)
        if optim_wrapper is not None:
            self.optim_wrapper = self.build_optim_wrapper(optim_wrapper, model)
            self._scale_lr()
        self.model = self._wrap_model(model)
        if optim_wrapper is not None:
            self.optim_wrapper.model = self.model
        if param_scheduler is not None:
            self.param_schedulers = self.build_param_scheduler(param_scheduler, self.optim_wrapper)
        self._prepared = True
        return self._prepared_components()

    def build_optim_wrapper(self, optim_wrapper: Any, model: nn.Module | None = None) -> BaseOptimWrapper:
        """Build the optimiser, keeping what DeepSpeed does by itself for :meth:`_wrap_model`."""
        settings = dict(optim_wrapper)
        clip = dict(settings.pop('clip_grad', None) or {})
        if clip.pop('type', 'norm') != 'norm' or clip.pop('norm_type', 2) != 2 or set(clip) - {'max_norm'}:
            raise ConfigError(
                f'optim_wrapper.clip_grad={optim_wrapper["clip_grad"]}: DeepSpeed clips the global 2-norm only, '
                'write clip_grad=dict(max_norm=...) or use DDPStrategy'
            )
        self._clip_norm = float(clip.get('max_norm', 0.0))  # 0: DeepSpeed does not clip
        self._accumulative_counts = settings.pop('accumulative_counts', 1)
        # AmpOptimWrapper would scale losses a second time.
        settings['type'] = ZeroOptimWrapper
        built = super().build_optim_wrapper(settings, model)
        # Its parameters are where its states are: DeepSpeed's own for the CPU refuse others.
        device = 'cpu' if self.sharing.offload else get_device()
        if isinstance(settings['optimizer'], dict) and not is_elementwise(settings['optimizer'], device):
            # It would take every flat share for a parameter, and train another way without a word.
            raise ConfigError(
                f'optim_wrapper.optimizer: {type(built.optimizer).__name__} needs whole parameters, and ZeRO flattens '
                'and shares them: use AdamW, or DDPStrategy'
            )
        return built

    def _accumulation(self) -> int:
        return self._accumulative_counts

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        optimizer = self.optim_wrapper.optimizer if hasattr(self, 'optim_wrapper') else None
        # Without an optimiser (evaluation) only stage 3 has something to share.
        stage = self.zero_stage if optimizer is not None or self.zero_stage == 3 else 0
        if self.shares_weights:
            # Before deepspeed.initialize, which would want all of it on the device.
            deepspeed.zero.Init(module=_OneByOne(model), config_dict_or_path=self._config(stage))
            self._share_buffers(model)
        engine, optimizer, *_ = deepspeed.initialize(
            model=model, optimizer=optimizer, config=self._config(stage)
        )
        if hasattr(self, 'optim_wrapper'):
            # DeepSpeed's own around ours: schedules are built on it next.
            self.optim_wrapper.optimizer = optimizer
        return MMDeepSpeedEngineWrapper(model=engine)

    def _config(self, stage: int) -> dict[str, Any]:
        # Without stages (evaluation) there is nothing the options could be about.
        zero: dict[str, Any] = dict(self._options if stage else {}, stage=stage)
        if self.sharing.offload and stage:
            zero['offload_optimizer'] = dict(device='cpu')
            if stage == 3:
                zero['offload_param'] = dict(device='cpu')
        if stage == 3 and get_device() == 'cpu':
            # Small parameters that stay whole are gathered together after each step: the race of `_whole`.
            zero['stage3_param_persistence_threshold'] = 0
        config: dict[str, Any] = dict(
            train_micro_batch_size_per_gpu=self._batch_size,
            gradient_accumulation_steps=self._accumulative_counts,
            gradient_clipping=self._clip_norm,
            zero_optimization=zero,
            # Any torch optimiser works; DeepSpeed's own would have to be compiled.
            zero_allow_untested_optimizer=True,
            zero_force_ds_cpu_optimizer=False,
            # Never: the runner logs.
            steps_per_print=2**62,
        )
        if self.precision.dtype != torch.float32:
            config['torch_autocast'] = dict(
                enabled=True, dtype=str(self.precision.dtype).removeprefix('torch.')
            )
        return config

    # ---- training states ----

    @property
    def engine(self) -> deepspeed.DeepSpeedEngine:
        """DeepSpeed's engine around the task."""
        return self.model.model

    def _place(self, parameter: nn.Parameter) -> tuple[int, int]:
        share = parameter.ds_tensor.ds_numel
        start = min(share * self.rank, parameter.ds_numel)
        return start, min(share, parameter.ds_numel - start)  # the last shares are padded

    def _values(self, parameter: nn.Parameter) -> Tensor:
        start, length = self._place(parameter)
        share = parameter.ds_tensor
        if share.dtype == parameter.dtype and share.numel() == share.ds_numel:
            return share.detach().view(-1)[:length]
        # Quantised, or moved out to a disk, by an option.
        return self._gather(parameter).view(-1)[start : start + length].clone()

    def _gather(self, parameter: nn.Parameter) -> Tensor:
        # Not DeepSpeed's gathering of a model, which on CPUs gives, and leaves behind, half-gathered parameters.
        with _whole(parameter):
            # Gathered memory is used again: a copy.
            return parameter.detach().cpu().clone()

    def _fill(self, parameter: nn.Parameter, whole: Tensor | None) -> None:
        with _whole(parameter, modifier_rank=0):
            if whole is not None:
                parameter.data.copy_(whole)

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes = {name: tuple(tensor.shape) for name, tensor in self.task.state_dict().items()}
        if self.zero_stage == 3:
            # Between uses a partitioned parameter is empty; ds_shape is that of the whole.
            shapes.update(
                (name, tuple(p.ds_shape)) for name, p in self.task.named_parameters(remove_duplicate=False)
            )
        return shapes

    def _weights_changed(self) -> None:
        """Let the optimiser's own copies of the parameters follow."""
        optimizer = self.engine.optimizer
        # In an evaluation there is no optimiser, hence no copy.
        if hasattr(optimizer, 'refresh_fp32_params'):
            optimizer.refresh_fp32_params()

    @contextlib.contextmanager
    def _inner_optimizer(self) -> Iterator[torch.optim.Optimizer]:
        """The torch optimiser of this process's partition, its parameter groups filled."""
        outer = self.engine.optimizer
        if self.zero_stage < 3:
            yield outer.optimizer
            return
        # DeepSpeed leaves the groups of torch's optimiser empty between its steps.
        outer._set_fp32_optimizer_param_groups()
        try:
            yield outer.optimizer
        finally:
            outer._clear_fp32_optimizer_param_groups()

    def _segments(self, inner: torch.optim.Optimizer) -> list[Segment]:
        names = {id(parameter): name for name, parameter in self.task.named_parameters()}
        places = {id(t): index for index, t in enumerate(p for g in inner.param_groups for p in g['params'])}
        outer, segments = self.engine.optimizer, []
        if self.zero_stage == 3:
            # A flat tensor per sub-group: this process's part of each of its parameters, all of the same size.
            for parameters, flat in zip(outer.fp16_groups, outer.fp32_partitioned_groups_flat):
                offset = 0
                for parameter in parameters:
                    start, length = self._place(parameter)
                    if length:
                        segments.append(
                            Segment(places[id(flat)], offset, names[id(parameter)], start, length)
                        )
                    offset += parameter.ds_tensor.ds_numel
            return segments
        # All parameters of a group one after the other, cut into equal parts.
        for index, (group, size) in enumerate(zip(outer.round_robin_bit16_groups, outer.partition_size)):
            begin, offset = int(size) * self.rank, 0
            for parameter in group:
                first, last = max(offset, begin), min(offset + parameter.numel(), begin + int(size))
                if first < last:
                    segments.append(
                        Segment(index, first - begin, names[id(parameter)], first - offset, last - first)
                    )
                offset += parameter.numel()
        return segments

    def _shared_optimizer_state(self) -> dict[str, Any]:
        """What all processes share: the layout of the partition."""
        return dict(zero_stage=self.zero_stage)

    def _own_state(self, *, optimizer: bool) -> dict[str, Any]:
        state = super()._own_state(optimizer=optimizer)
        if not optimizer:
            return state
        with self._inner_optimizer() as inner:
            # Parameters are fp32 everywhere, so the partition's copies are in the model file already.
            shard = dict(
                optimizer=inner.state_dict(), segments=[list(segment) for segment in self._segments(inner)]
            )
        counters = {name: getattr(self.engine, name) for name in _COUNTERS}
        scaler = getattr(self.engine.optimizer, 'torch_autocast_gradscaler', None)
        return dict(
            state, shard=dict(shard, counters=counters, scaler=scaler.state_dict() if scaler else None)
        )

    def _fits(self, meta: dict[str, Any], saved: dict[str, Any]) -> bool:
        return saved.get('zero_stage') == self.zero_stage and meta['world_size'] == self.world_size

    def _load_own_optimizer(self, saved: dict[str, Any], shard: dict[str, Any] | None) -> None:
        if shard is None:
            raise KeyError(f'no shard of process {self.rank}')
        with self._inner_optimizer() as inner:
            inner.load_state_dict(shard['optimizer'])
        # DeepSpeed decides by micro_steps when an accumulation is complete.
        for name, value in shard['counters'].items():
            setattr(self.engine, name, value)
        if shard['scaler'] is not None:
            self.engine.optimizer.torch_autocast_gradscaler.load_state_dict(shard['scaler'])

    def _load_converted_optimizer(self, state: Path, meta: dict[str, Any]) -> None:
        super()._load_converted_optimizer(state, meta)
        # As after so many batches of its own.
        batches = meta['iter']
        updates = batches // self._accumulative_counts
        counts = (updates, updates * self.engine.train_batch_size(), batches)
        for name, value in zip(_COUNTERS, counts):
            setattr(self.engine, name, value)
