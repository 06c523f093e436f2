"""Content hashes: of files, of tensors and of nested settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

_CHUNK = 1 << 20  # bytes read at a time


def hash_file(path: str | Path) -> str:
    """Return the sha256 of a file's bytes as hexadecimal text."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def hash_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return a sha256 over names, dtypes, shapes and bytes, independent of the mapping's order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        # The header keeps [2, 3] and [3, 2] of equal bytes apart.
        digest.update(f'{name}|{tensor.dtype}|{tuple(tensor.shape)}|'.encode())
        # As bytes: numpy has no bf16.
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def hash_settings(settings: Any) -> str:
    """Return a sha256 of nested settings; classes and functions count by their qualified name."""

    def plain(value: Any) -> str:
        # repr of a function holds its address, which changes with every process.
        if isinstance(value, type) or callable(value):
            return f'{value.__module__}.{value.__qualname__}'
        return str(value)

    text = json.dumps(settings, sort_keys=True, default=plain)
    return hashlib.sha256(text.encode()).hexdigest()
