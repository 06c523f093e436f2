"""The one place that reads or writes pickled weights (``.pth``, ``.pt``, ``.bin``).

A pickle is a program. ``weights_only=True`` runs none of it: it rebuilds tensors and plain containers and refuses the
rest. There is no fallback, and nothing else in this package calls ``torch.load`` on a file a user names.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.logging import print_log
from torch import Tensor

from internvl_mm.utils.errors import CheckpointError
from internvl_mm.utils.hashing import hash_file

SUFFIXES = ('.pth', '.pt', '.bin')
# What torch.load raises for damaged files, beside its refusals; found by cutting and changing files at random.
_DAMAGE = (
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    struct.error,
)
# What published files wrap their tensors in: DeepSpeed's, the probe's, everyone's.
_WRAPPERS = ('module', 'model', 'state_dict')


def read_pickle(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a pickled checkpoint without executing it; says its size and sha256.

    Raises:
        CheckpointError: The file holds more than tensors (nothing of it was run), is damaged, or is no checkpoint.
    """
    path = Path(path)
    try:
        facts = f'{path.stat().st_size:,} bytes, sha256 {hash_file(path)}'
    except OSError as error:
        raise CheckpointError(f'{path} cannot be read ({error.strerror}): check its permissions') from error
    print_log(f'{path}: pickled weights, {facts}', 'current')
    try:
        # Only zip archives (torch 1.6 and later) can stay on disk until they are needed.
        loaded = torch.load(path, map_location='cpu', weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        # The first line of torch's message goes on to advise weights_only=False: only its reason is repeated here.
        reason = str(error).split('WeightsUnpickler error: ')[-1].splitlines()[0]
        raise CheckpointError(
            f'{path} was refused: it is not a pickle of tensors alone ({reason}). Nothing in it was executed. '
            'Get the weights as safetensors, or save the tensors alone: torch.save(model.state_dict(), ...)'
        ) from error
    except _DAMAGE as error:
        raise CheckpointError(
            f'{path} is damaged or not a checkpoint ({error}): get the file again'
        ) from error
    # In this order, so that wrappers inside of wrappers are taken off, too.
    for wrapper in _WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    if not isinstance(loaded, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in loaded.items()
    ):
        raise CheckpointError(
            f'{path} holds {type(loaded).__name__} data, not names and tensors, alone or under '
            f'{", ".join(map(repr, _WRAPPERS))}: it is not a file of weights'
        )
    return dict(loaded)


def write_pickle(path: str | Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as the published ``.pth`` files are: ``{'module': {name: tensor}}``."""
    # Under 'module', as DeepSpeed saved them and published loaders take them off.
    torch.save({'module': dict(tensors)}, path)
