"""Content hashes: of files, of tensors and of nested settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

_CHUNK = 1 << 20  # bytes read at a time
# Attributes of modules that change no output: modes, and where weights, which are hashed themselves, came from.
_NOT_OUTPUTS = (
    'training',
    'pretrained',
    'pretrained_depth',
    'gradient_checkpointing',
    'output_hidden_states',
)


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


def hash_buffers(module: nn.Module | None) -> str:
    """Return :func:`hash_tensors` of a module's buffers, also of those no checkpoint holds; of no module, of none."""
    return hash_tensors({} if module is None else dict(module.named_buffers()))


def hash_modules(module: nn.Module, tensors: Mapping[str, torch.Tensor]) -> str:
    """Return a sha256 over what the code around tensors was told: heads, floors of norms, sides of windows, kernels.

    None of that is in the tensors, and all of it changes what they compute.

    Args:
        module: A model.
        tensors: Some of its own; modules below it count when all of their tensors are among them.
    """
    known = {tensor.data_ptr() for tensor in tensors.values()}
    settings = {}
    for name, part in module.named_modules():
        owned = {tensor.data_ptr() for tensor in part.state_dict().values()}
        if owned and owned <= known:
            plain = {key: value for key, value in sorted(vars(part).items()) if _decides(key, value)}
            settings[name] = [type(part).__qualname__, plain]
    return hash_settings(settings)


def _decides(key: str, value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return all(_decides(key, each) for each in value)
    plain = value is None or isinstance(value, (bool, int, float, str))
    return plain and not key.startswith('_') and key not in _NOT_OUTPUTS


def hash_settings(settings: Any) -> str:
    """Return a sha256 of nested settings; classes and functions count by their qualified name."""

    def plain(value: Any) -> str:
        # repr of a function holds its address, which changes with every process.
        if isinstance(value, type) or callable(value):
            return f'{value.__module__}.{value.__qualname__}'
        return str(value)

    text = json.dumps(settings, sort_keys=True, default=plain)
    return hashlib.sha256(text.encode()).hexdigest()
