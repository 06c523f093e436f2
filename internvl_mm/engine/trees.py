"""Nested states on disk without pickle: tensors in safetensors, everything around them in JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from internvl_mm.utils.errors import CheckpointError

# JSON objects with this one key stand for what JSON cannot say; real keys that begin so are written as '$items'.
_MARK = '$'


def save_tree(folder: Path, name: str, tree: Any) -> None:
    """Write a nested state as ``name.json`` and, when it holds tensors, ``name.safetensors``.

    Args:
        folder: Where to write.
        name: File name without suffix.
        tree: Dicts (any plain keys), lists, tuples, tensors, arrays, numbers, text, ``None`` and mmengine's
            ``HistoryBuffer``.

    Raises:
        TypeError: The tree holds something else; only a pickle could keep it, and pickles run code when they are read.
    """
    tensors: dict[str, Tensor] = {}
    plain = encode(tree, name, tensors)
    if tensors:
        save_tensors(folder / f'{name}.safetensors', tensors)
    (folder / f'{name}.json').write_text(json.dumps(plain), 'utf-8')


def load_tree(folder: Path, name: str) -> Any:
    """Read what :func:`save_tree` wrote; tensors arrive on the CPU.

    Raises:
        CheckpointError: A file is missing or damaged.
    """
    path = folder / f'{name}.json'
    try:
        plain = json.loads(path.read_text('utf-8'))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f'{path} cannot be read ({error}): the checkpoint is damaged, use an older one'
        ) from error
    file = folder / f'{name}.safetensors'
    return _decode(plain, load_tensors(file) if file.is_file() else {})


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write named tensors; those that share memory (tied weights) are written once each."""
    seen: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():
        # safetensors writes plain memory: no strides, no shared storage.
        tensor = tensor.detach().cpu().contiguous()
        memory = tensor.untyped_storage().data_ptr()
        separate[name] = tensor.clone() if memory in seen else tensor
        seen.add(memory)
    save_file(separate, path)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; a :class:`CheckpointError` when it is missing or damaged."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f'{path} cannot be read ({error}): the checkpoint is damaged, use an older one'
        ) from error


def encode(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """Say a state in JSON's words; its tensors go into ``tensors`` under their places. See :func:`save_tree`."""
    if value is None or isinstance(value, (bool, int, float, str)):
        # numpy's floats are Python floats, too; JSON wants the plain ones.
        return float(value) if isinstance(value, np.floating) else value
    # numpy's ints and bools are no Python ones, and JSON refuses them.
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (Tensor, np.ndarray)):
        array = isinstance(value, np.ndarray)
        while place in tensors:  # {'a.b': x, 'a': {'b': y}} and the like
            place += "'"
        tensors[place] = torch.from_numpy(np.ascontiguousarray(value)) if array else value
        return {'$array' if array else '$tensor': place}
    if isinstance(value, HistoryBuffer):
        # Arrays: values and how many each stands for, of the last max_length updates.
        values, counts = value.data
        return {'$history': encode([values, counts, value.max_length], place, tensors)}
    if isinstance(value, (list, tuple)):
        # JSON has no tuples; random states and betas need them back.
        items = [encode(item, f'{place}.{number}', tensors) for number, item in enumerate(value)]
        return items if isinstance(value, list) else {'$tuple': items}
    if isinstance(value, dict):
        entries = {key: encode(item, f'{place}.{key}', tensors) for key, item in value.items()}
        if all(isinstance(key, str) and not key.startswith(_MARK) for key in entries):
            return entries
        # JSON keys are text; optimiser states are keyed by numbers.
        return {'$items': [[encode(key, place, tensors), item] for key, item in entries.items()]}
    raise TypeError(
        f'{place} is a {type(value).__qualname__}, which cannot be written without pickle: '
        'give numbers, text, lists, dicts or tensors'
    )


def _decode(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) != 1 or not next(iter(value)).startswith(_MARK):
        return {key: _decode(item, tensors) for key, item in value.items()}
    ((mark, content),) = value.items()
    if mark == '$tensor':
        return tensors[content]
    if mark == '$array':
        return tensors[content].numpy()
    content = _decode(content, tensors)
    if mark == '$tuple':
        return tuple(content)
    if mark == '$items':
        return dict(content)
    if mark == '$history':
        return HistoryBuffer(list(content[0]), list(content[1]), max_length=content[2])
    raise CheckpointError(
        f'unknown mark {mark!r}: the checkpoint was written by a newer version, update this one'
    )
