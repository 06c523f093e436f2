"""Training states of strategies that share out weights: nobody holds the whole model, to save it or to load it.

Each process writes the values it has; whole tensors are read by the first process, one by one, and shared out.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list
from torch import Tensor, nn

from internvl_mm.engine.checkpoint import check_fit, get_rng, set_rng
from internvl_mm.engine.partition import Shares
from internvl_mm.engine.patience import patient_group
from internvl_mm.registry import MODELS
from internvl_mm.utils.errors import CheckpointError, UserError
from internvl_mm.utils.hashing import hash_tensors
from internvl_mm.utils.parameters import local_part

from .base import StrategyMixin
from .start import take_from_first


class _Asked(Mapping[str, Tensor]):
    """Tensors that a function makes when they are asked for."""

    def __init__(self, names: Collection[str], make: Callable[[str], Tensor]):
        self._names, self._make = names, make

    def __getitem__(self, name: str) -> Tensor:
        return self._make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class SharesMixin(StrategyMixin):
    """Comes before :class:`StrategyMixin`; where ``shares_weights`` is false everything is as there."""

    @abstractmethod
    def _place(self, parameter: nn.Parameter) -> tuple[int, int]:
        """Where in the flattened whole parameter the values of this process begin, and how many there are."""

    @abstractmethod
    def _values(self, parameter: nn.Parameter) -> Tensor:
        """These values, flat and live."""

    @abstractmethod
    def _gather(self, parameter: nn.Parameter) -> Tensor:
        """The whole parameter on the CPU; called by every process."""

    @abstractmethod
    def _fill(self, parameter: nn.Parameter, whole: Tensor | None) -> None:
        """Share out a whole parameter of the first process, of others ``None``; called by every process."""

    # ---- writing ----

    def _written_tensors(self, left_out: Collection[str]) -> dict[str, Tensor]:
        if not self.shares_weights:
            return super()._written_tensors(left_out)
        kept = {name: t for name, t in self.task.state_dict(keep_vars=True).items() if name not in left_out}
        # Forward passes change buffers, while savers may still read.
        return self.as_written(
            {
                n: self._values(t) if isinstance(t, nn.Parameter) else t.detach().clone()
                for n, t in kept.items()
            }
        )

    def as_written(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """What a state keeps of tensors that are cut as those of the model by these names, such as averages of them."""
        parameters, shapes = self._parameters(), self.tensor_shapes()
        # Buffers are whole everywhere: they are the first process's.
        values = {name: t.reshape(-1) for name, t in tensors.items() if name in parameters or self.rank == 0}
        return Shares(
            {name: flat for name, flat in values.items() if len(flat) or self.rank == 0},
            {n: shapes[n] for n in tensors},
        )

    def own_parts(self, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """What this process holds of whole tensors, cut as those of the model by these names; one by one."""
        parameters = self._parameters()
        for name, whole in tensors.items():
            if name in parameters:
                start, length = self._place(parameters[name])
                whole = whole.view(-1)[start : start + length].view(local_part(parameters[name]).shape)
            yield name, whole

    def _hash(self, names: Collection[str]) -> str | None:
        if not self.shares_weights:
            return super()._hash(names)
        # By every process alike: gathering a parameter is work of all.
        _, make = self._whole_tensors()
        return hash_tensors(_Asked(names, make))

    def model_state_dict(self) -> dict[str, Tensor]:
        """The whole model, gathered tensor by tensor on the first process; empty on the others."""
        if not self.shares_weights:
            return super().model_state_dict()
        whole = _Asked(*self._whole_tensors())
        return {name: tensor for name, tensor in whole.items() if self.rank == 0}

    def _whole_tensors(self) -> tuple[Collection[str], Callable[[str], Tensor]]:
        """Names, and a function that every process has to call for the same ones in the same order."""
        parameters, shapes = self._parameters(), self.tensor_shapes()

        def make(name: str) -> Tensor:
            parameter = parameters.get(name)
            return (
                self.task.get_buffer(name)
                if parameter is None
                else self._gather(parameter).view(shapes[name])
            )

        return shapes, make

    def _parameters(self) -> dict[str, nn.Parameter]:
        # Tied weights under each of their names. Asked for its state, FSDP gives up what it has gathered.
        kept = self.task.state_dict(keep_vars=True)
        return {name: tensor for name, tensor in kept.items() if isinstance(tensor, nn.Parameter)}

    # ---- reading ----

    def _assign(self, tensors: Mapping[str, Tensor]) -> None:
        if not self.shares_weights:
            return super()._assign(tensors)
        parameters = self._parameters()
        for name in sorted(tensors):
            # Read by the first process alone, and only now.
            whole = tensors[name] if self.rank == 0 else None
            if name in parameters:
                self._fill(parameters[name], whole)
                continue
            buffer = self.task.get_buffer(name)
            if whole is not None:
                buffer.copy_(whole)
            take_from_first(buffer)

    def _load_backbone(self, path: Path) -> dict[str, Any]:
        if not self.shares_weights:
            return super()._load_backbone(path)
        has_reader = hasattr(getattr(self.task, 'backbone', None), 'load_weights')
        if not (has_reader and isinstance(self._model_config, dict) and 'backbone' in self._model_config):
            raise CheckpointError(
                f'{path}: no tensor has a name of {type(self.task).__name__}, which has no backbone of its own to load'
            )
        # Published layouts are read into whole parameters, which ours are not: through a second backbone, of the first
        # process alone.
        shapes = {name: size for name, size in self.tensor_shapes().items() if name.startswith('backbone.')}
        found: dict[str, Any] = dict.fromkeys(shapes)
        problems: list[UserError | None] = [None]
        if self.rank == 0:
            random = get_rng()
            try:
                backbone = MODELS.build(self._model_config['backbone'])
                backbone.load_weights(path)
                found = {f'backbone.{name}': tensor for name, tensor in backbone.state_dict().items()}
                # The others go through the names of the task, which may have changed its backbone since.
                check_fit(found, shapes, source=path)
            except UserError as error:
                problems[0] = error
            # What it drew shall not be missing in the training.
            set_rng(random)
        broadcast_object_list(problems, group=patient_group())
        if problems[0] is not None:
            raise problems[0]
        self._assign(found)
        self._weights_changed()
        return dict(meta={})
