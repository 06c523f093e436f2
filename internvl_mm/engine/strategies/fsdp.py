"""Several processes that share out the model by rows: PyTorch's own fully sharded data parallelism (FSDP2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from mmengine._strategy import SingleDeviceStrategy as MMSingleDeviceStrategy
from mmengine.device import get_device
from mmengine.optim import BaseOptimWrapper
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from internvl_mm.engine.memory import Sharing
from internvl_mm.engine.partition import Segment
from internvl_mm.registry import STRATEGIES
from internvl_mm.utils.parameters import find_blocks
from internvl_mm.utils.precision import Precision

from .shares import SharesMixin
from .start import exchange, make_room, take_from_first
from .sync_bn import synchronise_batch_norms

_LAYOUT = 'rows'  # in a state: how the optimiser is cut


@STRATEGIES.register_module()
class FSDPStrategy(SharesMixin, MMSingleDeviceStrategy):
    """Train in several processes that hold parameters, gradients and optimiser states by rows, as ZeRO-3 does.

    Blocks (entries of a ``ModuleList``) are gathered one at a time. Parameters and their exchange are fp32, half
    precisions run as autocast.

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
        self._mesh: DeviceMesh | None = None
        self._numbers: set[str] = set()  # names of parameters without dimensions

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        if self._sync_batch_norm:
            model = synchronise_batch_norms(model)
        for name, parameter in model.named_parameters():
            if not parameter.ndim:
                # FSDP cuts rows: one of one value, which every product takes for the number.
                exchange(parameter, parameter.data.view(1))
                self._numbers.add(name)
        self._mesh = init_device_mesh(get_device(), (self.world_size,))
        # Inner first: what a block holds is no longer in the group of the model around it.
        for block in find_blocks(model):
            self._take_parameters(block)
            fully_shard(block, mesh=self._mesh, reshard_after_forward=self._reshard)
        self._take_parameters(model)
        # What is in no block stays gathered between forward and backward pass, which follow one another.
        model = fully_shard(model, mesh=self._mesh, reshard_after_forward=False)
        self._share_buffers(model)
        return model

    def _take_parameters(self, module: nn.Module) -> None:
        """Whole parameters of the first process, on the device, for all that are not cut yet."""
        for parameter in module.parameters():
            if not isinstance(parameter, DTensor):
                make_room(parameter)
                parameter.data = parameter.data.to(get_device())
                take_from_first(parameter)

    def build_optim_wrapper(self, optim_wrapper: Any, model: nn.Module | None = None) -> BaseOptimWrapper:
        """See :meth:`StrategyMixin.build_optim_wrapper`; the norm that is logged is that of the whole gradient."""
        wrapper = super().build_optim_wrapper(optim_wrapper, model)
        # The norm of sharded gradients is a DTensor, too, of which each process holds a part.
        clip = getattr(wrapper, 'clip_func', None)
        if clip is not None:
            wrapper.clip_func = lambda *args, **kwargs: _whole(clip(*args, **kwargs))
        return wrapper

    # ---- training states ----

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        return {
            name: () if name in self._numbers else shape for name, shape in super().tensor_shapes().items()
        }

    def _place(self, parameter: nn.Parameter) -> tuple[int, int]:
        # As torch.chunk cuts: equal shares, rounded up; the last processes may get fewer rows or none.
        rows = parameter.shape[0]
        # Ceiling division.
        first = min(-(-rows // self.world_size) * self.rank, rows)
        # Flat positions: rows before this process's, times the values of a row.
        return first * (parameter.numel() // max(rows, 1)), parameter.to_local().numel()

    def _values(self, parameter: nn.Parameter) -> Tensor:
        return parameter.detach().to_local().view(-1)

    def _gather(self, parameter: nn.Parameter) -> Tensor:
        return parameter.detach().full_tensor().cpu()

    @torch.no_grad()
    def _fill(self, parameter: nn.Parameter, whole: Tensor | None) -> None:
        sent = torch.empty(parameter.shape, dtype=parameter.dtype, device=parameter.device)
        if whole is not None:
            sent.copy_(whole)
        take_from_first(sent)
        start, length = self._place(parameter)
        self._values(parameter).copy_(sent.view(-1)[start : start + length])

    def _segments(self, inner: torch.optim.Optimizer) -> list[Segment]:
        names = {id(parameter): name for name, parameter in self.task.named_parameters()}
        tensors = [parameter for group in inner.param_groups for parameter in group['params']]
        segments = []
        for index, tensor in enumerate(tensors):
            start, length = self._place(tensor)
            if length:
                segments.append(Segment(index, 0, names[id(tensor)], start, length))
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
