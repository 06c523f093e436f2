"""What a run needs in memory with each strategy: formulas over the sizes of its model and what its batch keeps.

In bytes per GPU, of P values of parameters of which T train, on n GPUs:

* weights 4·P and gradients 4·T (parameters stay fp32 in every precision), optimiser states 4·s·T with s values kept per
  value (2 for AdamW); each divided by n where the strategy shares it: ZeRO 1 optimiser states, 2 also gradients, 3 and
  FSDP also weights;
* DeepSpeed's own copy of what trains 4·T / n: its optimisers step on it and then write the weights;
* averaged weights (EMAHook) 4·T;
* activations: what autograd keeps for the backward pass of the batch of one GPU; of recomputed blocks the inputs of
  all and the inside of one;
* buffers: none with DDP, whose gradients live in its buckets; ZeRO's buckets hold at most 5e8 values, in stage 3 also
  1e9 gathered ones; FSDP gathers two blocks, and keeps what is in no block gathered;
* offloading moves optimiser states and DeepSpeed's copy, in stage 3 also the weights, to the host;
* to start, a node needs main memory for the weights of each of its processes, with ZeRO-3 and FSDP of the first alone.

Workspaces of kernels and the allocator's slack come on top: leave a tenth free.

Source: Rajbhandari et al. 2020, "ZeRO" (arXiv 1910.02054), section 3; defaults of DeepSpeed 0.19;
https://docs.pytorch.org/docs/stable/generated/torch.nn.parallel.DistributedDataParallel.html (gradient_as_bucket_view).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from mmengine.registry import OPTIMIZERS
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from internvl_mm.utils.console import console, print_table
from internvl_mm.utils.errors import ConfigError
from internvl_mm.utils.parameters import find_blocks, numel

GIB = 2**30
SPARE = 0.9  # share of a GPU that a plan may fill: kernels and the allocator need the rest
GPUS_OF_A_NODE = 8  # whose processes share one host
_FORMULAS = (
    'bytes per GPU of n, with P parameters of which T train: weights 4·P, gradients 4·T, optimiser 4·T per value it '
    "keeps (AdamW 8·T) and DeepSpeed's copy 4·T, each / n where it is shared; averaged weights 4·T more; activations: "
    'what autograd keeps (of recomputed blocks the inputs and one inside); buffers: ZeRO at most 5e8 values, '
    'stage 3 also 1e9, FSDP two blocks and what is in none. Of the main memory of a node: host, what its GPUs offload; '
    'start, what it takes to build the model, 4·P for each process, of ZeRO-3 and FSDP for the first alone'
)
_BUCKET, _LIVE = 5e8, 1e9  # values; reduce_bucket_size, stage3_max_live_parameters of DeepSpeed
_FP32 = 4  # bytes


@dataclass(frozen=True)
class Sharing:
    """What the processes of a strategy share out, and whose copies and buffers come with it.

    Attributes:
        stage: As ZeRO counts: 0 nothing, 1 optimiser states, 2 also gradients, 3 also weights.
        offload: Optimiser states, in stage 3 also weights, are in main memory.
        library: What exchanges gradients.
    """

    stage: int = 0
    offload: bool = False
    library: Literal['torch', 'deepspeed'] = 'torch'


# By the name of the strategy file; a test compares them with what the strategies say of themselves.
STRATEGIES = dict(
    ddp=Sharing(),
    zero1=Sharing(1, library='deepspeed'),
    zero2=Sharing(2, library='deepspeed'),
    zero3=Sharing(3, library='deepspeed'),
    fsdp2=Sharing(3),
    zero3_offload=Sharing(3, offload=True, library='deepspeed'),
)


@dataclass(frozen=True)
class Memory:
    """Bytes per GPU.

    ``host`` is what offloading moves to main memory; ``start`` is what a node needs there while the model is built; the
    rest is the device's.
    """

    weights: float
    gradients: float
    optimizer: float
    averaged: float
    activations: float
    buffers: float = 0.0
    host: float = 0.0
    start: float = 0.0

    @property
    def device(self) -> float:
        """Everything on the device."""
        parts = self.weights + self.gradients + self.optimizer + self.averaged
        return parts + self.activations + self.buffers


@dataclass(frozen=True)
class Sizes:
    """A model and its batch, ready for the formulas.

    Attributes:
        weights: Bytes of all parameters in their own dtypes.
        gradients: Bytes of those that train.
        values: Values of all parameters, P.
        trainable: Values of those that train, T.
        state_values: What the optimiser keeps per trainable value; see :func:`state_per_value`.
        activations: Bytes of the batch of one GPU.
        averaged: Bytes of averaged weights.
        block: Values of the largest block, which FSDP gathers.
        outside: Values of what is in no block.
    """

    weights: float
    gradients: float
    values: int
    trainable: int
    state_values: float
    activations: float
    averaged: float = 0.0
    block: int = 0
    outside: int = 0

    @classmethod
    def of(cls, task: nn.Module, *, state_values: float, activations: float, averaged: float = 0.0) -> Sizes:
        """Count the parameters of a task, which may be partitioned or have no values (fake tensors)."""
        parameters = list(task.parameters())
        trains = [parameter for parameter in parameters if parameter.requires_grad]
        blocks = [sum(map(numel, block.parameters())) for block in find_blocks(task)]
        values = sum(map(numel, parameters))
        return cls(
            weights=held_bytes(parameters),
            gradients=held_bytes(trains),
            values=values,
            trainable=sum(map(numel, trains)),
            state_values=state_values,
            activations=activations,
            averaged=averaged,
            block=max(blocks, default=0),  # FSDP gathers one after the other
            outside=values - sum(blocks),
        )

    def memory(self, sharing: Sharing, gpus: int) -> Memory:
        """Apply the formulas of this module."""

        def share(stage: int) -> int:
            return gpus if sharing.stage >= stage else 1

        copy = self.trainable if sharing.library == 'deepspeed' else 0  # fp32, what the optimiser updates
        optimizer = _FP32 * (self.state_values * self.trainable + copy) / share(1)
        # Stage 1 shares out the optimiser, 2 the gradients too, 3 the weights too.
        weights, host = self.weights / share(3), 0.0
        if sharing.offload:
            host, optimizer = optimizer, 0.0
        if sharing.offload and sharing.stage == 3:
            host, weights = host + weights, 0.0
        return Memory(
            weights=weights,
            gradients=self.gradients / share(2),
            optimizer=optimizer,
            averaged=self.averaged,
            activations=self.activations,
            buffers=self._buffers(sharing) if gpus > 1 else 0.0,
            host=host,
            start=self.weights * (1 if sharing.stage == 3 else min(gpus, GPUS_OF_A_NODE)),
        )

    def _buffers(self, sharing: Sharing) -> float:
        """Bytes for exchange between GPUs."""
        if sharing.library == 'torch':
            # The block that computes and the next one, gathered meanwhile; what is in no block stays gathered.
            return _FP32 * (2 * self.block + self.outside) if sharing.stage == 3 else 0.0
        gathered = min(_LIVE, self.values) if sharing.stage == 3 else 0
        return _FP32 * (min(_BUCKET, self.trainable) + gathered)


class SavedBytes:
    """Counts what autograd keeps inside a ``with`` block: every storage once, those of a module's parameters not.

    Attributes:
        total: Bytes.
    """

    def __init__(self, module: nn.Module):
        self.total = 0
        # Storages by identity, however many views of them are kept; fake tensors have no addresses.
        self._seen = {parameter.untyped_storage()._cdata for parameter in module.parameters()}
        self._hooks = saved_tensors_hooks(self._record, lambda tensor: tensor)

    def _record(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._seen:
            self._seen.add(storage._cdata)
            self.total += storage.nbytes()
        return tensor

    def __enter__(self) -> SavedBytes:
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._hooks.__exit__(*error)


class StepBytes(SavedBytes):
    """:class:`SavedBytes` of a training step whose model may recompute blocks.

    Of a recomputed block autograd keeps the input alone until the backward pass computes its inside again, out of sight
    of these hooks. So the first block of each kind is computed once more, by itself.

    Attributes:
        inside: Bytes of the largest inside of a recomputed block.
    """

    def __init__(self, task: nn.Module):
        super().__init__(task)
        self.inside = 0
        self._handles: list[Any] = []
        kinds: set[type] = set()
        for block in find_blocks(task):
            if type(block) not in kinds:
                kinds.add(type(block))
                self._handles.append(block.register_forward_pre_hook(self._look_inside, with_kwargs=True))
                self._handles.append(block.register_forward_hook(self._compare))
        # Block → bytes of its inside, and the total before it; the backward pass comes by a second time.
        self._alone: dict[nn.Module, tuple[int, int]] = {}
        self._compared: set[nn.Module] = set()

    def _look_inside(self, block: nn.Module, args: Any, kwargs: Any) -> None:
        if block not in self._alone:
            with SavedBytes(block) as saved:
                outputs = block.forward(*args, **kwargs)  # holds on to what is counted; hooks are not called
            del outputs
            self._alone[block] = saved.total, self.total

    def _compare(self, block: nn.Module, inputs: Any, outputs: Any) -> None:
        if block not in self._compared:
            self._compared.add(block)
            inside, before = self._alone[block]
            # Hooks of torch's checkpointing hide what is kept in a block that will be recomputed.
            if self.total == before:
                self.inside = max(self.inside, inside)

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for handle in self._handles:
            handle.remove()


def state_per_value(optimizer: Mapping[str, Any]) -> float:
    """How many values an optimizer keeps per parameter value: 2 for AdamW, 1 for SGD with momentum.

    Args:
        optimizer: Its config; it is built for one small parameter and stepped once.

    Raises:
        ConfigError: The optimiser refuses its settings.
    """
    # A matrix: some optimisers (Adafactor, Muon) treat vectors otherwise.
    parameter = nn.Parameter(torch.zeros(64, 64))
    try:
        built = OPTIMIZERS.build({**optimizer, 'params': [parameter]})
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f'optim_wrapper.optimizer: {error}; given is {dict(optimizer)}') from error
    parameter.grad = torch.ones_like(parameter)
    built.step()
    state = built.state[parameter].values()
    return (
        # Scalars such as Adam's step count are nothing beside the rest.
        sum(value.numel() for value in state if isinstance(value, Tensor) and value.ndim) / parameter.numel()
    )


def held_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of whole parameters (or averages of them) in their own dtypes."""
    return sum(numel(tensor) * tensor.element_size() for tensor in tensors)


def plan_rows(sizes: Sizes, gpus: Sequence[int]) -> list[tuple[str, int, Memory]]:
    """Name, GPUs and memory of every strategy that makes a difference there; one GPU has nothing to share out."""
    rows = []
    for name, sharing in STRATEGIES.items():
        for count in gpus:
            if count > 1 or sharing.offload:
                rows.append((name, count, sizes.memory(sharing, count)))
            elif sharing == Sharing():
                rows.append(('single', count, sizes.memory(sharing, count)))
    return rows


def print_plan(title: str, rows: Iterable[tuple[str, int, Memory]], *, capacity: float | None = None) -> None:
    """Print predicted peaks, and the formulas they come from.

    Args:
        title: Over the table.
        rows: See :func:`plan_rows`.
        capacity: GiB of a GPU, to say what fits; unknown when left out.
    """
    rows = list(rows)
    small = max(memory.device for _, _, memory in rows) < GIB  # tiny models, such as those of the quickstart
    name_of_unit, unit = ('MiB', GIB / 1024) if small else ('GiB', GIB)
    columns = [
        'strategy',
        'GPUs',
        'weights',
        'gradients',
        'optimiser',
        'activations',
        'buffers',
        'peak',
        'host',
        'start',
    ]
    table = []
    for name, count, memory in rows:
        # The host of a node holds what all of its GPUs offload.
        host = memory.host * min(count, GPUS_OF_A_NODE)
        parts = [memory.weights + memory.averaged, memory.gradients, memory.optimizer, memory.activations]
        parts += [memory.buffers, memory.device, host, memory.start]
        fits = [] if capacity is None else ['yes' if memory.device <= SPARE * capacity * GIB else '']
        table.append([name, count, *(part / unit for part in parts), *fits])
    if capacity is not None:
        columns.append(f'fits {capacity:.0f} GiB')
    print_table(f'{title}, {name_of_unit} per GPU', columns, table)
    console.print(_FORMULAS, highlight=False)
