"""The start of strategies that share out weights: the first process has values, the others only names and sizes.

What a process without values builds is the model of the first one on the meta device. It reads no weights and draws
none; its shares come from the first process, parameter by parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from mmengine._strategy import BaseStrategy
from mmengine.device import get_device
from mmengine.dist import all_gather_object, broadcast_object_list
from torch import Tensor, nn

from internvl_mm.engine.checkpoint import get_rng, set_rng
from internvl_mm.engine.memory import Sharing
from internvl_mm.engine.patience import patient_group
from internvl_mm.utils.errors import ConfigError, UserError


@contextmanager
def without_values() -> Iterator[None]:
    """Inside, modules that are built get parameters on the meta device; buffers and other tensors keep their values."""
    register = nn.Module.register_parameter

    def register_empty(module: nn.Module, name: str, param: nn.Parameter | None) -> None:
        # Not of kinds of their own, such as quantised ones: those stay as they are.
        if type(param) is nn.Parameter and not param.is_meta:
            exchange(param, torch.empty_like(param, device='meta'))
        register(module, name, param)

    # Every way to give a module a parameter ends here; torch has no hook for it.
    nn.Module.register_parameter = register_empty  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def exchange(tensor: Tensor, other: Tensor) -> None:
    """Put another tensor in the place of one, whoever holds it: a module, another one it is tied to, an optimiser."""
    if isinstance(tensor, nn.Parameter):
        other = nn.Parameter(other, requires_grad=tensor.requires_grad)
    vars(other).update(vars(tensor))
    torch.utils.swap_tensors(tensor, other)


def make_room(tensor: Tensor) -> None:
    """Give a tensor of the meta device memory on the device of this process, without values; leave others alone."""
    if tensor.is_meta:
        exchange(tensor, torch.empty_like(tensor, device=get_device()))


@torch.no_grad()
def take_from_first(tensor: Tensor) -> None:
    """Give a tensor the values it has on the first process; called by all, with tensors of their devices."""
    # As bytes: backends do not know every dtype.
    whole = tensor.detach().contiguous()
    if whole.numel():
        dist.broadcast(whole.view(-1).view(torch.uint8), 0)
    if whole.data_ptr() != tensor.data_ptr():  # it has strides
        tensor.copy_(whole)


def describe(model: nn.Module) -> dict[str, str]:
    """What has to be the same on every process, by name: sizes and ties of tensors, and plain settings of modules."""
    found: dict[str, str] = {}
    first: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        tied = first.setdefault(id(parameter), name)
        trains = 'trains' if parameter.requires_grad else 'frozen'
        found[name] = f'{tuple(parameter.shape)} {parameter.dtype} {trains} {tied}'
    for name, buffer in model.named_buffers(remove_duplicate=False):
        found[name] = f'{tuple(buffer.shape)} {buffer.dtype}'
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if not key.startswith('_') and isinstance(value, bool | int | float | str | None):
                found[f'{name}.{key}'.lstrip('.')] = repr(value)
    return found


def _together(action: Callable[[], nn.Module], group: Any) -> nn.Module:
    """Run an action on every process; what one of them refuses is raised on all, so that none waits for ever."""
    model: Any = None
    problem: UserError | None = None
    try:
        model = action()
    except UserError as error:
        problem = error
    problems = [told for told in all_gather_object(problem, group) if told]
    if problems:
        raise problem or problems[0]
    return model


def _refuse_packed(model: nn.Module) -> None:
    packed = [name for name, p in model.named_parameters() if not p.is_floating_point()]
    if packed:
        raise ConfigError(
            f'{packed[0]} and {len(packed) - 1} more are packed in few bits, of which no process can hold a share: use '
            '_base_/strategies/zero2.py or ddp.py, or leave lora.quantise out'
        )


class StartMixin(BaseStrategy):
    """Builds the model with values once where a strategy shares out weights, and on every process where it does not."""

    sharing = Sharing()  # what the processes share out; predictions of memory ask, too
    _model_config: Any = None
    _is_empty = False  # whether this process built the model without values
    _why_whole: str | None = None  # why it did not, though it is not the first

    @property
    def shares_weights(self) -> bool:
        """Whether each process holds a share of the parameters; one alone holds all in the same way."""
        return self.sharing.stage == 3

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build the model; on processes beside the first without values, where weights are shared out."""
        self._model_config = model
        if self.shares_weights and self.rank and isinstance(model, dict) and self._why_whole is None:
            try:
                with without_values():
                    built = super().build_model(model)
                self._is_empty = True
                return built
            except (RuntimeError, TypeError) as error:  # what torch raises where values are needed
                self._why_whole = str(error)
        return super().build_model(model)

    def _init_model_weights(self, model: nn.Module) -> nn.Module:
        """Load or draw the weights to start from: on every process, or on the first of those that share them out.

        Raises:
            ConfigError: Weights packed in few bits.
            UserError: What any process raised, on every process.
        """
        if not self.shares_weights:
            return super()._init_model_weights(model)
        # Reading tens of billions of parameters takes minutes, while the others wait.
        patient = patient_group()
        model = _together(lambda: self._start_floating(model), patient)
        facts: list[Any] = [describe(model), get_rng()]
        broadcast_object_list(facts, group=patient)
        expected, random = facts
        model = _together(lambda: self._started_as(expected, model), patient)
        reasons = [reason for reason in all_gather_object(self._why_whole, patient) if reason]
        if reasons:
            self.logger.warning(
                f'{type(model).__name__}: every process builds the whole model in main memory before it is shared '
                f'out, since it cannot be built without values: {reasons[0]}'
            )
        # As if every process had drawn the weights.
        if not self.randomness.get('diff_rank_seed'):
            set_rng(random)
        return model

    def _start_floating(self, model: nn.Module) -> nn.Module:
        model = self._start(model)
        _refuse_packed(model)
        return model

    def _started_as(self, expected: dict[str, str], model: nn.Module) -> nn.Module:
        """The model, or one with values where it is not what the first process has."""
        if not self._is_empty or (own := describe(model)) == expected:
            return model
        place = next(name for name in [*expected, *own] if expected.get(name) != own.get(name))
        return self._start_whole(
            f'init_weights does more than giving values, and init_structure does not do it: {place} is '
            f'{expected.get(place)} with it, {own.get(place)} without'
        )

    def _start(self, model: nn.Module) -> nn.Module:
        if not self.dispatch_kwargs.get('init_weights_for_test_or_val', True):
            return model
        if self._is_empty:
            try:
                # Of models that are no task of ours init_weights is taken to give values alone; they are compared.
                with without_values():
                    getattr(model, 'init_structure', lambda: None)()
                return model
            except (RuntimeError, TypeError) as error:
                return self._start_whole(str(error))
        if hasattr(model, 'init_weights'):
            model.init_weights()
        return model

    def _start_whole(self, why: str) -> nn.Module:
        self._is_empty, self._why_whole = False, why
        return self._start(self.build_model(self._model_config))

    def _share_buffers(self, model: nn.Module) -> None:
        """Move buffers to the device of this process and give them the values of the first."""
        for buffer in model.buffers():
            make_room(buffer)
        model.to(get_device())  # parameters are there already; mmengine's models take a note of it
        for buffer in model.buffers():
            take_from_first(buffer)
