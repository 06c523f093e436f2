"""A few samples of another data set: so many of every class, or one in so many."""

from __future__ import annotations

import json
import uuid
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from internvl_mm.data.datasets.base import BaseDataset, Item
from internvl_mm.data.datasets.guarded import GuardedDataset
from internvl_mm.data.samplers import SampleIndex
from internvl_mm.registry import DATASETS
from internvl_mm.structures import BadSample
from internvl_mm.utils.checks import check_counts
from internvl_mm.utils.errors import DataError
from internvl_mm.utils.hashing import hash_settings


class SubsetDataset(Dataset, ABC):
    """Some samples of another data set, chosen once and written down.

    The subset file (JSON: data set, its size, the rule, indices) is written when it does not exist and used when it
    does, so that every process, run and colleague trains on the same samples. Samples keep their index in the full data
    set.

    Args:
        dataset: The full data set, or its config.
        subset_file: Where the choice is kept.
        suffix: Appended to the name of the full data set.
        rule: What decides the choice; handed to :meth:`choose`.

    Raises:
        DataError: The file was made for another choice, or cannot be read or written.
    """

    def __init__(self, dataset: GuardedDataset | dict, *, subset_file: str, suffix: str, **rule: int):
        self.dataset: Any = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        self.name = f'{self.dataset.name}-{suffix}'
        self.classes = self.dataset.classes
        # The size too: of a data set that grew or shrank the same indices are other samples.
        chosen = dict(dataset=self.dataset.name, size=len(self.dataset), **rule)
        indices = _read_subset(Path(subset_file), chosen)
        if indices is None:
            # A function of the rule alone: processes that come here at once choose, and write, the same.
            indices = self.choose(rule)
            _write_subset(Path(subset_file), dict(chosen, indices=indices.tolist()))
        self._indices = indices

    @abstractmethod
    def choose(self, rule: dict[str, int]) -> np.ndarray:
        """Positions of the chosen samples in the full data set."""

    @property
    def metainfo(self) -> dict[str, Any]:
        """See :class:`GuardedDataset`."""
        return dict(self.dataset.metainfo, name=self.name)

    def fingerprint(self) -> str:
        """See :class:`GuardedDataset`."""
        return hash_settings([self.dataset.fingerprint(), self._indices.tolist()])

    def set_epoch(self, epoch: int) -> None:
        """See :class:`GuardedDataset`."""
        self.dataset.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Item | BadSample:
        inner = int(self._indices[index])
        # Seed and epoch stay those of the sampler: only the number means another sample in the full data set.
        return self.dataset[index.to(inner) if isinstance(index, SampleIndex) else inner]


@DATASETS.register_module()
class FewShotDataset(SubsetDataset):
    """The same number of samples of every class.

    Args:
        dataset: The full data set, or its config.
        shots: Samples per class.
        subset_file: Where the choice is kept, see :class:`SubsetDataset`.
        seed: Seed of the choice.

    Raises:
        DataError: A class has fewer samples than ``shots``, or the file was made for another choice.
    """

    def __init__(self, dataset: BaseDataset | dict, *, shots: int, subset_file: str, seed: int = 0):
        check_counts(shots=shots)
        super().__init__(dataset, subset_file=subset_file, suffix=f'{shots}shot', shots=shots, seed=seed)
        # As every labelled data set has them.
        self.targets = self.dataset.targets[self._indices]

    def choose(self, rule: dict[str, int]) -> np.ndarray:
        """See :class:`SubsetDataset`."""
        rng, shots = np.random.default_rng(rule['seed']), rule['shots']
        chosen = []
        for label, name in enumerate(self.classes):
            members = np.flatnonzero(self.dataset.targets == label)
            if len(members) < shots:
                raise DataError(
                    f"class {label} ('{name}') of '{self.dataset.name}' has {len(members)} samples, fewer than "
                    f'shots={shots}; use at most {len(members)}'
                )
            # Sorted, so that the file can be read and compared by people.
            chosen.append(np.sort(rng.choice(members, shots, replace=False)))
        return np.concatenate(chosen)


@DATASETS.register_module()
class RandomPartDataset(SubsetDataset):
    """One part in so many of the samples, whatever their classes: the published few-shot segmentation.

    Keeps ``len(dataset) // part`` samples: of ADE20K's 20,210 one sixteenth is 1,263. Published subsets depended on the
    seed of the run and were not kept.

    Args:
        dataset: The full data set, or its config.
        part: 16 keeps a sixteenth, 1 everything.
        subset_file: Where the choice is kept, see :class:`SubsetDataset`.
        seed: Seed of the choice.

    Raises:
        DataError: Nothing would be left, or the file was made for another choice.
    """

    def __init__(self, dataset: GuardedDataset | dict, *, part: int, subset_file: str, seed: int = 0):
        check_counts(part=part)
        super().__init__(dataset, subset_file=subset_file, suffix=f'1of{part}', part=part, seed=seed)

    def choose(self, rule: dict[str, int]) -> np.ndarray:
        """See :class:`SubsetDataset`."""
        part = rule['part']
        count = len(self.dataset) // part  # rounded down, as published: 20,210 / 16 = 1,263.1
        if not count:
            raise DataError(
                f"part={part} of '{self.dataset.name}' with {len(self.dataset)} samples leaves none; use at most "
                f'{len(self.dataset)}'
            )
        return np.sort(np.random.default_rng(rule['seed']).choice(len(self.dataset), count, replace=False))


def _read_subset(file: Path, chosen: dict[str, Any]) -> np.ndarray | None:
    if not file.exists():
        return None
    try:
        content = json.loads(file.read_text(encoding='utf-8'))
        indices = np.array(content['indices'], np.int64)
        differing = {key: content.get(key) for key, value in chosen.items() if content.get(key) != value}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f'{file}: not a subset file ({error}); delete it to choose anew') from error
    # Here rather than as an IndexError in the middle of an epoch.
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
        # No number of a process: two machines that share the folder may have the same.
        temporary = file.with_name(f'{file.name}.{uuid.uuid4().hex}')
        temporary.write_text(json.dumps(content) + '\n', encoding='utf-8')
        temporary.replace(file)
    except OSError as error:
        raise DataError(f'subset_file={file} cannot be written ({error.strerror})') from error
