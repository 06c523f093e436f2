"""Nested states on disk without pickle: tensors in safetensors, everything around them in JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from internvl_mm.models.convert.files import DTYPES, like
from internvl_mm.utils.errors import CheckpointError

# JSON objects with this one key stand for what JSON cannot say; real keys that begin so are written as '$items'.
_MARK = '$'
_STAGE = 64 << 20  # bytes of a device's tensor that are on the host at a time
_FORMAT_NAMES = {dtype: name for name, dtype in DTYPES.items()}

# What a state consists of: file name to JSON text, or to the tensors of a safetensors file.
Files = dict[str, str | dict[str, Tensor]]


def render_tree(name: str, tree: Any) -> Files:
    """The files of a nested state, ready to be written; tensors stay where they are and are not copied.

    Args:
        name: File name without suffix.
        tree: See :func:`save_tree`.

    Raises:
        TypeError: See :func:`save_tree`.
    """
    tensors: dict[str, Tensor] = {}
    files: Files = {f'{name}.json': json.dumps(encode(tree, name, tensors))}
    if tensors:
        files[f'{name}.safetensors'] = tensors
    return files


def write_files(folder: Path, files: Files) -> None:
    """Write what :func:`render_tree` gave, without syncing."""
    for name, content in files.items():
        if isinstance(content, str):
            (folder / name).write_text(content, 'utf-8')
        else:
            save_tensors(folder / name, content)


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
    write_files(folder, render_tree(name, tree))


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


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors as a safetensors file; those that share memory (tied weights) are written once each.

    Tensors go to the file one after the other, those of a device in pieces of 64 MiB, so that no copy of the whole is
    made; the library's own writer wants all of them on the host at once. Those on disk
    (:class:`~internvl_mm.models.convert.files.StoredTensors`) are read one after the other. Python's lock is free
    while bytes are written.

    Raises:
        TypeError: A dtype the format has no name for.
    """
    # Wide types first: every tensor then begins at a multiple of its element size, as readers by memory map need.
    sizes = {name: like(tensors, name) for name in tensors}
    names = sorted(tensors, key=lambda name: (-sizes[name].element_size(), name))
    header: dict[str, Any] = {}
    end = 0  # bytes after the header
    for name in names:
        tensor = sizes[name]
        if tensor.dtype not in _FORMAT_NAMES:
            raise TypeError(f'{name} is {tensor.dtype}, for which safetensors has no name: convert it first')
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = dict(
            dtype=_FORMAT_NAMES[tensor.dtype], shape=list(tensor.shape), data_offsets=[start, end]
        )
    text = json.dumps(header, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 8)  # the tensors begin at a multiple of 8
    # Unbuffered: the bytes are large already, another buffer would be another copy.
    with open(path, 'wb', buffering=0) as file:
        _write_all(file, memoryview(len(text).to_bytes(8, 'little') + text))
        for name in names:
            _write_tensor(file, tensors[name])


def _write_tensor(file: io.RawIOBase, tensor: Tensor) -> None:
    # As bytes: numpy has no bf16. A tensor with strides is copied, alone.
    flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    step = len(flat) if flat.device.type == 'cpu' else _STAGE
    for start in range(0, len(flat), max(step, 1)):
        _write_all(file, memoryview(flat[start : start + step].cpu().numpy()))


def _write_all(file: io.RawIOBase, data: memoryview) -> None:
    # One call writes at most 2 GiB on Linux, and less when it likes to.
    while len(data):
        data = data[file.write(data) :]


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
