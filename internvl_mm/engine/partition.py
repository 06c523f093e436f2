"""Optimiser states cut another way: from any strategy and number of processes to any other.

Every optimiser here keeps its states in tensors that are whole parameters (one process, DDP), rows of them (FSDP) or
flat pieces of many (ZeRO). A :class:`Segment` says which values of which parameter stand where; with the segments of
all processes the states of whole parameters are put together, and with other segments taken apart again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from internvl_mm.utils.errors import CheckpointError

from .trees import load_tree

# Parameter → what the optimiser keeps for it, e.g. exp_avg (flat, as many values as the parameter) and step (a number).
Whole = dict[str, dict[str, Any]]


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


def join_states(shards: Iterable[Mapping[str, Any]], sizes: Mapping[str, int]) -> Whole:
    """States of whole parameters from those of all processes.

    Args:
        shards: ``dict(optimizer=<state dict>, segments=[...])`` of each process.
        sizes: Values of each parameter.

    Raises:
        CheckpointError: A parameter is not known.
    """
    whole: Whole = {}
    for shard in shards:
        for segment in (Segment(*fields) for fields in shard['segments']):
            if segment.name not in sizes:
                raise CheckpointError(
                    f'the optimiser state has {segment.name}, which is not in the model: resume with the same model'
                )
            kept = whole.setdefault(segment.name, {})
            for key, value in shard['optimizer']['state'].get(segment.place, {}).items():
                # Step counts are single numbers; everything else has one value per value of the parameter.
                if not (isinstance(value, Tensor) and value.ndim):
                    kept[key] = value
                    continue
                # Flat, [values of the parameter]; every process fills in its own piece.
                target = kept.setdefault(key, torch.zeros(sizes[segment.name], dtype=value.dtype))
                piece = value.reshape(-1)[segment.offset : segment.offset + segment.length]
                target[segment.start : segment.start + segment.length] = piece
    return whole


def cut_states(
    whole: Whole, segments: Sequence[Segment], shapes: Mapping[int, tuple[int, ...]]
) -> dict[int, dict[str, Any]]:
    """What one process keeps of whole states, as an optimiser's state dict has it under ``state``.

    Args:
        whole: From :func:`join_states`.
        segments: Of this process.
        shapes: Shape of each of its tensors, by index.
    """
    states: dict[int, dict[str, Any]] = {}
    for segment in segments:
        for key, value in whole.get(segment.name, {}).items():
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
