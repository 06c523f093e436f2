"""Optimiser states cut another way: from any strategy and number of processes to any other.

Every optimiser here keeps its states in tensors that are whole parameters (one process, DDP), rows of them (FSDP) or
flat pieces of many (ZeRO). A :class:`Segment` says which values of which parameter stand where; with the segments of
all processes the states of whole parameters are put together, and with other segments taken apart again.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from internvl_mm.utils.errors import CheckpointError

from .trees import load_tree

# A parameter and what the optimiser keeps for it: exp_avg (flat, as many values as the parameter), step (a number) …
Whole = tuple[str, dict[str, Any]]


class Shares(dict[str, Tensor]):
    """Flat values that this process holds of tensors, by name; those of all processes in order are the whole.

    Attributes:
        shapes: Of the whole tensors.
    """

    def __init__(self, values: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]):
        super().__init__(values)
        self.shapes = dict(shapes)


class Segment(NamedTuple):
    """Values of one parameter within one tensor of an optimiser.

    Attributes:
        place: Of the tensor, as the optimiser's state dict counts.
        offset: Where in the flattened tensor they begin.
        name: The parameter.
        start: Where in the flattened parameter they begin.
        length: How many.
    """

    place: int
    offset: int
    name: str
    start: int
    length: int


def join_states(shards: Iterable[Mapping[str, Any]], sizes: Mapping[str, int]) -> Iterator[Whole]:
    """States of whole parameters from those of all processes, one parameter after the other.

    Args:
        shards: ``dict(optimizer=<state dict>, segments=[...])`` of each process.
        sizes: Values of each parameter.

    Yields:
        Name of a parameter, and what the optimiser keeps for it.

    Raises:
        CheckpointError: A parameter is not known.
    """
    shards = list(shards)
    states = [shard['optimizer']['state'] for shard in shards]
    # Step counts are single numbers for every parameter, moments only for parameters of no dimension.
    kept = [values for state in states for values in state.values()]
    per_value = {k for values in kept for k, v in values.items() if isinstance(v, Tensor) and v.ndim}
    pieces: dict[str, list[tuple[Segment, Mapping[str, Any]]]] = {}
    for shard, state in zip(shards, states):
        for segment in (Segment(*fields) for fields in shard['segments']):
            if segment.name not in sizes:
                raise CheckpointError(
                    f'the optimiser state has {segment.name}, which is not in the model: resume with the same model'
                )
            pieces.setdefault(segment.name, []).append((segment, state.get(segment.place, {})))
    for name, found in pieces.items():
        yield name, _join(found, per_value, sizes[name])


def _join(
    pieces: Iterable[tuple[Segment, Mapping[str, Any]]], per_value: Collection[str], size: int
) -> dict[str, Any]:
    """What an optimiser keeps for one parameter, from segments and what is kept of the tensors they are in."""
    whole: dict[str, Any] = {}
    for segment, kept in pieces:
        for key, value in kept.items():
            if key not in per_value:
                whole[key] = value
                continue
            # Flat, [values of the parameter]; every process fills in its own piece.
            target = whole.setdefault(key, torch.zeros(size, dtype=value.dtype))
            piece = value.reshape(-1)[segment.offset : segment.offset + segment.length]
            target[segment.start : segment.start + segment.length] = piece
    return whole


def cut_states(
    whole: Iterable[Whole], segments: Sequence[Segment], shapes: Mapping[int, tuple[int, ...]]
) -> dict[int, dict[str, Any]]:
    """What one process keeps of whole states, as an optimiser's state dict has it under ``state``.

    Args:
        whole: From :func:`join_states`; needed one by one.
        segments: Of this process.
        shapes: Shape of each of its tensors, by index.
    """
    states: dict[int, dict[str, Any]] = {}
    own: dict[str, list[Segment]] = {}
    for segment in segments:
        own.setdefault(segment.name, []).append(segment)
    for name, values in whole:
        for segment, (key, value) in itertools.product(own.get(name, ()), values.items()):
            kept = states.setdefault(segment.place, {})
            if not (isinstance(value, Tensor) and value.ndim):
                kept[key] = value.clone() if isinstance(value, Tensor) else value
                continue
            # Zeros where ZeRO pads.
            target = kept.setdefault(key, torch.zeros(shapes[segment.place], dtype=value.dtype))
            piece = value[segment.start : segment.start + segment.length]
            target.view(-1)[segment.offset : segment.offset + segment.length] = piece
    return states


def read_shards(state: Path) -> list[dict[str, Any]]:
    """What each process of the run that wrote a state kept of the optimiser.

    Raises:
        CheckpointError: The state holds weights only, or was written before states could be converted.
    """
    # As many as processes wrote it, whatever their number is now.
    names = [path.stem for path in state.glob('shard.rank*.json')]
    # Memory-mapped: bytes are read as they are put together.
    shards = [load_tree(state, name) for name in sorted(names)]
    if not shards and (state / 'optimizer.json').is_file():
        tree = load_tree(state, 'optimizer')
        shards = [dict(optimizer=tree, segments=tree.get('segments'))]
    if not shards or any(shard.get('segments') is None for shard in shards):
        raise CheckpointError(
            f'{state} holds no optimiser that can be converted: resume with the strategy and the number of processes '
            'it was written with, or start from its weights with load_from'
        )
    return shards


def convert_state(
    state: Path,
    *,
    segments: Sequence[Segment],
    shapes: Mapping[int, tuple[int, ...]],
    sizes: Mapping[str, int],
    groups: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """A state dict for the optimiser of this process from a state of any strategy and number of processes.

    Args:
        state: The training state.
        segments: Of this process.
        shapes: Shape of each tensor of this process, by index.
        sizes: Values of each parameter of the whole model.
        groups: ``param_groups`` of the optimiser's own state dict, which say which tensors are in which group.

    Raises:
        CheckpointError: The optimisers have other groups of parameters.
    """
    shards = read_shards(state)
    saved = shards[0]['optimizer']['param_groups']
    # Rates belong to groups by their order; with other groups they would go to other parameters.
    if len(saved) != len(groups):
        raise CheckpointError(
            f'{state}: the optimiser differs from the one that was saved ({len(saved)} groups of parameters, here '
            f'{len(groups)}): resume with the same optim_wrapper, or start from its weights with load_from'
        )
    return dict(
        state=cut_states(join_states(shards, sizes), segments, shapes),
        # Learning rates and the like as saved; which tensors are meant, as here.
        param_groups=[{**old, 'params': new['params']} for old, new in zip(saved, groups)],
    )
