"""Several processes that share out the model by rows: PyTorch's own fully sharded data parallelism (FSDP2)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine._strategy import SingleDeviceStrategy as MMSingleDeviceStrategy
from mmengine.device import get_device
from mmengine.optim import BaseOptimWrapper
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from internvl_mm.engine.memory import Sharing
from internvl_mm.engine.partition import Segment
from internvl_mm.registry import MODELS, STRATEGIES
from internvl_mm.utils.errors import CheckpointError, ConfigError
from internvl_mm.utils.parameters import find_blocks
from internvl_mm.utils.precision import Precision

from .base import StrategyMixin
from .sync_bn import synchronise_batch_norms

_LAYOUT = 'rows'  # in a state: how the optimiser is cut


@STRATEGIES.register_module()
class FSDPStrategy(StrategyMixin, MMSingleDeviceStrategy):
    """Train in several processes that hold parameters, gradients and optimiser states by rows, as ZeRO-3 does.

    Blocks (entries of a ``ModuleList``) are gathered one at a time. Parameters and their exchange are fp32, half
    precisions run as autocast. States have the same files as those of the other strategies: ``model.safetensors`` is
    whole.

    Args:
        reshard_after_forward: Give a block's parameters up again until the backward pass (ZeRO-3); ``False`` keeps
            them, which is faster and needs the memory of ZeRO-2.
        precision: ``'auto'``, ``'fp32'``, ``'bf16'`` or ``'fp16'``.
        sync_batch_norm: Batch norms see the global batch.

    Source: https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html
    """

    sharing = Sharing(3)

    def __init__(
        self,
        *,
        reshard_after_forward: bool = True,
        precision: Precision = 'auto',
        sync_batch_norm: bool = True,
        **kwargs: Any,
    ):
        super().__init__(precision=precision, **kwargs)
        self._reshard = reshard_after_forward
        self._sync_batch_norm = sync_batch_norm
        self._model_config: Any = None
        self._mesh: DeviceMesh | None = None

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """See :meth:`StrategyMixin.build_model`; the config is kept for :meth:`load_checkpoint`."""
        self._model_config = model
        return super().build_model(model)

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        model = model.to(get_device())
        if self._sync_batch_norm:
            model = synchronise_batch_norms(model)
        scalars = [name for name, parameter in model.named_parameters() if parameter.ndim == 0]
        if scalars:
            raise ConfigError(
                f'FSDPStrategy shares parameters out by rows, and {", ".join(scalars)} have none: use '
                '_base_/strategies/zero2.py or ddp.py'
            )
        self._mesh = init_device_mesh(get_device(), (self.world_size,))
        # Inner first: what a block holds is no longer in the group of the model around it.
        for block in find_blocks(model):
            fully_shard(block, mesh=self._mesh, reshard_after_forward=self._reshard)
        # What is in no block stays gathered between forward and backward pass, which follow one another.
        return fully_shard(model, mesh=self._mesh, reshard_after_forward=False)

    def build_optim_wrapper(self, optim_wrapper: Any, model: nn.Module | None = None) -> BaseOptimWrapper:
        """See :meth:`StrategyMixin.build_optim_wrapper`; the norm that is logged is that of the whole gradient."""
        wrapper = super().build_optim_wrapper(optim_wrapper, model)
        # The norm of sharded gradients is a DTensor, too, of which each process holds a part.
        clip = getattr(wrapper, 'clip_func', None)
        if clip is not None:
            wrapper.clip_func = lambda *args, **kwargs: _whole(clip(*args, **kwargs))
        return wrapper

    # ---- training states ----

    def model_state_dict(self) -> dict[str, Tensor]:
        """The whole model, gathered tensor by tensor on the first process; empty on the others."""
        tensors = {}
        for name, tensor in self.task.state_dict().items():
            # Every process takes part in the gathering, one keeps what comes of it.
            whole = _whole(tensor)
            if self.rank == 0:
                tensors[name] = whole.detach().cpu() if isinstance(tensor, DTensor) else whole
        return tensors

    def _assign(self, tensors: dict[str, Tensor]) -> None:
        # Tensors that are no DTensor (buffers) are whole on every process.
        own = self.task.state_dict()
        cut = {name: self._cut(tensor, own[name]) for name, tensor in tensors.items()}
        self.task.load_state_dict(cut, strict=False)

    def _cut(self, tensor: Tensor, like: Tensor) -> Tensor:
        if not isinstance(like, DTensor):
            return tensor
        # Every process read the same file and takes its rows of it: nothing is sent.
        whole = tensor.to(like.device)
        return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)

    def _load_backbone(self, path: Path) -> dict[str, Any]:
        if not isinstance(self._model_config, dict) or 'backbone' not in self._model_config:
            raise CheckpointError(
                f'{path}: no tensor has a name of {type(self.task).__name__}, which has no backbone of its own to load'
            )
        # Published layouts are read into whole parameters, which ours no longer are: through a second backbone.
        backbone = MODELS.build(self._model_config['backbone'])
        backbone.load_weights(path)
        self._assign({f'backbone.{name}': tensor for name, tensor in backbone.state_dict().items()})
        return dict(meta={})

    def _segments(self, inner: torch.optim.Optimizer) -> list[Segment]:
        names = {id(parameter): name for name, parameter in self.task.named_parameters()}
        tensors = [parameter for group in inner.param_groups for parameter in group['params']]
        segments = []
        for index, tensor in enumerate(tensors):
            rows = tensor.shape[0]
            # As torch.chunk cuts: equal shares, rounded up; the last processes may get fewer rows or none.
            # Ceiling division.
            first = min(-(-rows // self.world_size) * self.rank, rows)
            length = tensor.to_local().numel()
            if length:
                segments.append(
                    # Flat positions: rows before this process's, times the values of a row.
                    Segment(index, 0, names[id(tensor)], first * (tensor.numel() // rows), length)
                )
        return segments

    def _shared_optimizer_state(self) -> dict[str, Any]:
        # All values are in the processes' own shards.
        return dict(layout=_LAYOUT)

    def _own_state(self, *, optimizer: bool) -> dict[str, Any]:
        state = super()._own_state(optimizer=optimizer)
        if not optimizer:
            return state
        with self._inner_optimizer() as inner:
            saved = inner.state_dict()
            # On disk plain tensors: a DTensor belongs to the group of processes it was made in.
            parts = {index: dict(_local_values(kept)) for index, kept in saved['state'].items()}
            segments = [list(segment) for segment in self._segments(inner)]
        return dict(state, shard=dict(optimizer=dict(saved, state=parts), segments=segments))

    def _fits(self, meta: dict[str, Any], saved: dict[str, Any]) -> bool:
        return saved.get('layout') == _LAYOUT and meta['world_size'] == self.world_size

    def _load_own_optimizer(self, saved: dict[str, Any], shard: dict[str, Any] | None) -> None:
        if shard is None:
            raise KeyError(f'no shard of process {self.rank}')
        with self._inner_optimizer() as inner:
            self._load_inner(inner, shard['optimizer'])

    def _load_inner(self, inner: torch.optim.Optimizer, state_dict: dict[str, Any]) -> None:
        tensors = [parameter for group in inner.param_groups for parameter in group['params']]
        states = {
            index: {key: _like(value, tensors[index]) for key, value in kept.items()}
            for index, kept in state_dict['state'].items()
        }
        inner.load_state_dict(dict(state_dict, state=states))


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _local_values(kept: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in kept.items():
        yield key, value.to_local() if isinstance(value, DTensor) else value


def _like(value: Any, parameter: DTensor) -> Any:
    """A process's rows of a state as the rows they are; numbers (step counts) as they are."""
    if not (isinstance(value, Tensor) and value.ndim):
        return value
    rows = value.to(parameter.device)
    return DTensor.from_local(
        rows,
        parameter.device_mesh,
        parameter.placements,
        shape=parameter.shape,
        stride=parameter.stride(),
        # It would exchange messages to compare the processes; shape and stride are the parameter's own.
        run_check=False,
    )
