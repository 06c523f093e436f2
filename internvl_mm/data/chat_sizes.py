"""Tokens and tiles of every sample of a data set: measured once, in parallel, and kept in a file."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch.utils.data import DataLoader, Dataset

from internvl_mm.utils.console import track
from internvl_mm.utils.errors import DataError

UNKNOWN = -1  # size of a sample that cannot be measured: it is bad


class Measurable(Protocol):
    """What can be measured: a :class:`ChatDataset`."""

    name: str

    def __len__(self) -> int: ...

    def measure(self, index: int) -> tuple[int, int]: ...

    def fingerprint(self) -> str: ...


def measure_sizes(dataset: Measurable, *, workers: int = 0, folder: str | Path | None = None) -> np.ndarray:
    """Return int64 ``[len, 2]``, tokens and tiles of each sample, ``UNKNOWN`` for bad ones.

    Args:
        dataset: What to measure.
        workers: Processes; 0 for this one alone.
        folder: Keep the sizes there, under the data set's fingerprint, and take them from there the next time.
    """
    # 24 hexadecimal digits, 96 bits: data sets that share a name are out of the question.
    file = None if folder is None else Path(folder) / f'{dataset.fingerprint()[:24]}.npz'
    kept = _read(file, len(dataset))
    if kept is not None:
        return kept
    # Arrays, int64 [≤ 256, 2]: every tensor that a worker sends would take a file descriptor.
    loader = DataLoader(_Measured(dataset), batch_size=256, num_workers=workers, collate_fn=np.array)
    sizes = np.empty((len(dataset), 2), np.int64)
    start = 0
    for part in track(loader, f'measuring {dataset.name}'):
        sizes[start : start + len(part)] = part
        start += len(part)
    if file is not None:
        _write(file, sizes)
    return sizes


class _Measured(Dataset):
    def __init__(self, dataset: Measurable):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[int, int]:
        try:
            return self.dataset.measure(index)
        except DataError:
            # A bad sample has its say when it is read; a plan only leaves it out.
            return UNKNOWN, UNKNOWN


def _read(file: Path | None, length: int) -> np.ndarray | None:
    """Sizes kept earlier; damaged or foreign files are measured anew."""
    if file is None or not file.is_file():
        return None
    try:
        # No pickles: the folder may be shared, and a pickle can run any code.
        with np.load(file, allow_pickle=False) as content:
            sizes: Any = content['sizes']
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    return sizes if sizes.shape == (length, 2) else None


def _write(file: Path, sizes: np.ndarray) -> None:
    # Processes of one run may all measure: each writes a file of its own, and the rename is atomic.
    own = file.with_name(f'{file.stem}.{os.getpid()}.npz')
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # Compressed: most bytes of such small numbers are 0.
        np.savez_compressed(own, sizes=sizes)
        own.replace(file)
    except OSError as error:
        raise DataError(f'{file}: sizes of samples cannot be written ({error.strerror})') from error
