"""A few samples per class of another data set."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from internvl_mm.data.datasets.base import BaseDataset, Item
from internvl_mm.data.samplers import SampleIndex
from internvl_mm.registry import DATASETS
from internvl_mm.structures import BadSample
from internvl_mm.utils.errors import DataError
from internvl_mm.utils.hashing import hash_settings


@DATASETS.register_module()
class FewShotDataset(Dataset):
    """The same number of samples of every class, chosen once and written down.

    The subset file (JSON: data set, shots, seed, indices) is written when it does not exist and used when it does, so
    that every process, run and colleague trains on the same samples. Samples keep their index in the full data set.

    Args:
        dataset: The full data set, or its config.
        shots: Samples per class.
        subset_file: Where the choice is kept.
        seed: Seed of the choice.

    Raises:
        DataError: A class has fewer samples than ``shots``, or the file was made for another choice.
    """

    def __init__(self, dataset: BaseDataset | dict, *, shots: int, subset_file: str, seed: int = 0):
        self.dataset: BaseDataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        self.name = f'{self.dataset.name}-{shots}shot'
        self.classes = self.dataset.classes
        chosen = dict(dataset=self.dataset.name, size=len(self.dataset), shots=shots, seed=seed)
        indices = _read_subset(Path(subset_file), chosen)
        if indices is None:
            indices = self._choose(shots, seed)
            _write_subset(Path(subset_file), dict(chosen, indices=indices.tolist()))
        self._indices = indices
        self.targets = self.dataset.targets[self._indices]

    def _choose(self, shots: int, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        chosen = []
        for label, name in enumerate(self.classes):
            members = np.flatnonzero(self.dataset.targets == label)
            if len(members) < shots:
                raise DataError(
                    f"class {label} ('{name}') of '{self.dataset.name}' has {len(members)} samples, fewer than "
                    f'shots={shots}; use at most {len(members)}'
                )
            chosen.append(np.sort(rng.choice(members, shots, replace=False)))
        return np.concatenate(chosen)

    @property
    def metainfo(self) -> dict[str, Any]:
        """See :class:`BaseDataset`."""
        return dict(name=self.name, classes=self.classes)

    def fingerprint(self) -> str:
        """See :class:`BaseDataset`."""
        return hash_settings([self.dataset.fingerprint(), self._indices.tolist()])

    def set_epoch(self, epoch: int) -> None:
        """See :class:`BaseDataset`."""
        self.dataset.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Item | BadSample:
        inner = int(self._indices[index])
        return self.dataset[index.to(inner) if isinstance(index, SampleIndex) else inner]


def _read_subset(file: Path, chosen: dict[str, Any]) -> np.ndarray | None:
    if not file.exists():
        return None
    try:
        content = json.loads(file.read_text(encoding='utf-8'))
        indices = np.array(content['indices'], np.int64)
        differing = {key: content.get(key) for key, value in chosen.items() if content.get(key) != value}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f'{file}: not a subset file ({error}); delete it to choose anew') from error
    if differing or indices.ndim != 1 or not ((indices >= 0) & (indices < chosen['size'])).all():
        expected = {key: chosen[key] for key in differing}
        raise DataError(
            f'{file}: was made for {differing or "other indices"}, but {expected or chosen} is asked for; name another '
            'subset_file, or delete this one to choose anew'
        )
    return indices


def _write_subset(file: Path, content: dict[str, Any]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # Renamed into place, so that another process never reads half a file; all would write the same.
        temporary = file.with_name(f'{file.name}.{uuid.uuid4().hex}')
        temporary.write_text(json.dumps(content) + '\n', encoding='utf-8')
        temporary.replace(file)
    except OSError as error:
        raise DataError(f'subset_file={file} cannot be written ({error.strerror})') from error
