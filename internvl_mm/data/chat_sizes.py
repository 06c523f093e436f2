"""Tokens and tiles of every sample of a data set: measured once, in parallel, and kept in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from torch.utils.data import DataLoader, Dataset

from internvl_mm.utils.console import track
from internvl_mm.utils.errors import DataError
from internvl_mm.utils.kept_arrays import read_kept, write_kept

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
    kept = None if file is None else read_kept(file, ['sizes'])
    if kept is not None and kept['sizes'].shape == (len(dataset), 2):
        return kept['sizes']
    # Arrays, int64 [≤ 256, 2]: every tensor that a worker sends would take a file descriptor.
    loader = DataLoader(_Measured(dataset), batch_size=256, num_workers=workers, collate_fn=np.array)
    sizes = np.empty((len(dataset), 2), np.int64)
    start = 0
    for part in track(loader, f'measuring {dataset.name}'):
        sizes[start : start + len(part)] = part
        start += len(part)
    if file is not None:
        # Compressed: most bytes of such small numbers are 0.
        write_kept(file, dict(sizes=sizes), compressed=True, remedy='choose another sizes_folder')
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
