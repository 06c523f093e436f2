"""Weights on disk: a folder or a file, safetensors (whole or in shards) or pickled, as one mapping."""

from __future__ import annotations

import json
import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from internvl_mm.utils.errors import CheckpointError
from internvl_mm.utils.states import SHARES, check_files, is_state, model_file, sound_state

from .legacy import SUFFIXES, read_pickle

# In the order they are looked for in a folder; safetensors before pickles.
_IN_FOLDER = (
    'model.safetensors.index.json',
    'model.safetensors',
    'pytorch_model.bin.index.json',
    'pytorch_model.bin',
)
# By their names in safetensors files: https://github.com/huggingface/safetensors (README, "Format").
DTYPES = {
    'F64': torch.float64,
    'F32': torch.float32,
    'F16': torch.float16,
    'BF16': torch.bfloat16,
    'F8_E4M3': torch.float8_e4m3fn,
    'F8_E5M2': torch.float8_e5m2,
    'C64': torch.complex64,
    'I64': torch.int64,
    'I32': torch.int32,
    'I16': torch.int16,
    'I8': torch.int8,
    'U64': torch.uint64,
    'U32': torch.uint32,
    'U16': torch.uint16,
    'U8': torch.uint8,
    'BOOL': torch.bool,
}
# Dtypes weights are computed with; whole numbers and 8 bits say nothing about a model.
_FLOATS = {torch.float64, torch.float32, torch.float16, torch.bfloat16}


class StoredTensors(Mapping[str, Tensor]):
    """Tensors on disk by name, each read when it is asked for."""

    @abstractmethod
    def like(self, name: str) -> Tensor:
        """Shape and dtype of a tensor, on the meta device: nothing is read but the header of its file."""


def like(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    """A tensor with the shape and dtype of one by name, which is not read where it is on disk."""
    return tensors.like(name) if isinstance(tensors, StoredTensors) else tensors[name]


class SafetensorsFiles(StoredTensors):
    """Tensors of one or more safetensors files by name, each read when it is asked for.

    Args:
        files: The files; no name may occur twice.

    Raises:
        CheckpointError: A file is missing or damaged, or two hold the same name.
    """

    def __init__(self, files: list[Path]):
        # Tensor to the open file that holds it; files are mapped into memory, not read.
        self._file_of: dict[str, Any] = {}
        for path in files:
            handle = _open_safetensors(path)
            for name in handle.keys():
                if name in self._file_of:
                    raise CheckpointError(
                        f'{path}: tensor {name!r} is also in another file of this checkpoint'
                    )
                self._file_of[name] = handle

    def __getitem__(self, name: str) -> Tensor:
        return self._file_of[name].get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._file_of)

    def __len__(self) -> int:
        return len(self._file_of)

    def like(self, name: str) -> Tensor:
        """See :class:`StoredTensors`."""
        header = self._file_of[name].get_slice(name)
        dtype = DTYPES.get(header.get_dtype(), torch.uint8)  # kinds torch has no tensors of are bytes
        return torch.empty(header.get_shape(), dtype=dtype, device='meta')


class ShareFiles(StoredTensors):
    """Whole tensors by name, of which each process of a run wrote a share; put together when they are asked for.

    Args:
        index: ``<name>.shares.json``: the files, in order of the processes, and the shapes of the whole tensors, whose
            flattened values are those of all files one after the other.

    Raises:
        CheckpointError: The index or a file is missing or damaged.
    """

    def __init__(self, index: Path):
        content = read_json(index)
        files, shapes = content.get('files'), content.get('shapes')
        if not isinstance(files, list) or not isinstance(shapes, dict):
            raise CheckpointError(
                f"{index} has no 'files' and 'shapes': it is damaged, use an older checkpoint"
            )
        self._index, self._shapes = index, shapes
        self._files = [SafetensorsFiles([_beside(index, name)]) for name in files]

    def __getitem__(self, name: str) -> Tensor:
        shares = [file[name] for file in self._holding(name)]
        whole, shape = torch.cat(shares), self._shapes[name]
        if whole.numel() != math.prod(shape):
            raise CheckpointError(
                f'{self._index}: the shares of {name} have {whole.numel()} values in all instead of '
                f'{math.prod(shape)}: use an older checkpoint'
            )
        return whole.view(shape)

    def _holding(self, name: str) -> list[SafetensorsFiles]:
        found = [file for file in self._files if name in file]
        if not found:
            raise CheckpointError(f'{self._index}: no file has a share of {name}: use an older checkpoint')
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)

    def like(self, name: str) -> Tensor:
        """See :class:`StoredTensors`."""
        first = self._holding(name)[0]
        return first.like(name).new_empty(self._shapes[name])


def _open_safetensors(path: Path) -> Any:
    if not path.is_file():
        raise CheckpointError(f'{path} is missing: the checkpoint is incomplete, get this file too')
    try:
        return safe_open(path, framework='pt')
    except SafetensorError as error:
        raise CheckpointError(
            f'{path} is damaged or not a safetensors file ({error}): get it again'
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; a :class:`CheckpointError` when it is none."""
    try:
        value = json.loads(path.read_text('utf-8'))
    except (OSError, ValueError) as error:
        raise CheckpointError(f'{path} cannot be read as JSON ({error})') from error
    if not isinstance(value, dict):
        raise CheckpointError(f'{path} holds {type(value).__name__} where an object of settings belongs')
    return value


def find_weights(path: str | Path) -> Path:
    """The file to start reading from: ``path`` itself, or the index or weights file inside a folder, run or work_dir.

    Of a training state it is compared with the manifest; of a run or work_dir the newest undamaged one counts.

    Raises:
        CheckpointError: The path does not exist, the folder holds no weights, or those of a training state are damaged.
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError(f'{path} does not exist: give a folder or a file of weights')
    found = [path / name for name in _IN_FOLDER if (path / name).is_file()] if path.is_dir() else [path]
    # A run folder or a work_dir stands for its newest training state.
    if not found and (state := sound_state(path, model_only=True)) is not None:
        found = [model_file(state)]
    if not found:
        raise CheckpointError(
            f'{path} holds no weights: looked for {", ".join(_IN_FOLDER)} and training states'
        )
    if is_state(found[0].parent):
        check_files(found[0].parent, only=found[0].name)
    return found[0]


def open_weights(path: str | Path) -> Mapping[str, Tensor]:
    """Names and tensors of a checkpoint: a folder, an index, a safetensors file or a pickled file.

    Safetensors are read one tensor at a time, as they are asked for.

    Raises:
        CheckpointError: Nothing there, an unknown kind of file, damaged or incomplete.
    """
    path = find_weights(path)
    if path.name.endswith(SHARES):
        return ShareFiles(path)
    if path.name.endswith('.index.json'):
        weight_map = read_json(path).get('weight_map')
        if not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointError(f"{path} has no 'weight_map': it is not the index of a sharded checkpoint")
        # The map names a file for every tensor: each file once.
        files = sorted({_beside(path, name) for name in weight_map.values()})
        weights = _open_files(files)
        if lost := sorted(set(weight_map) - set(weights)):
            raise CheckpointError(
                f'{path} names {len(lost)} tensors that are in no file, such as {lost[0]!r}'
            )
        return weights
    return _open_files([path])


def _beside(index: Path, name: object) -> Path:
    # An index comes with the weights, from anyone: it must not reach out of its folder.
    if not isinstance(name, str) or Path(name).name != name:
        raise CheckpointError(f'{index} points at {name!r}: shards must lie beside the index')
    return index.with_name(name)


def _open_files(files: list[Path]) -> Mapping[str, Tensor]:
    suffix = files[0].suffix
    if suffix == '.safetensors':
        return SafetensorsFiles(files)
    if suffix not in SUFFIXES:
        raise CheckpointError(
            f'{files[0]}: weights end in .safetensors, {", ".join(SUFFIXES)}, not {suffix!r}'
        )
    if missing := [path for path in files if not path.is_file()]:
        raise CheckpointError(f'{missing[0]} is missing: the checkpoint is incomplete, get this file too')
    return {name: tensor for path in files for name, tensor in read_pickle(path).items()}


def same_bytes(a: Tensor | None, b: Tensor | None) -> bool:
    """Same dtype, shape and bytes; NaNs with the same bits count as the same."""
    if a is None or b is None or a.dtype != b.dtype or a.shape != b.shape:
        return False
    return torch.equal(*(tensor.contiguous().view(-1).view(torch.uint8) for tensor in (a, b)))


def stored_dtype(weights: Mapping[str, Tensor], *, but: str | None = None) -> torch.dtype | None:
    """The dtype that holds every value of a checkpoint, whatever its config.json says; ``None`` without floats.

    Where the tensors differ it is the smallest that loses nothing: fp32 for fp16 beside bf16.

    Args:
        weights: Of :func:`open_weights`, or tensors by name.
        but: End of the names that do not count: tables that no model reads.
    """
    names = [name for name in weights if but is None or not name.endswith(but)]
    found = {like(weights, name).dtype for name in names} & _FLOATS
    return reduce(torch.promote_types, found) if found else None
