"""Several annotations as one data set: the published meta file, with caps and weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from braceexpand import braceexpand

from internvl_mm.data.chat_records import join_root
from internvl_mm.data.datasets.guarded import GuardedDataset, OnError
from internvl_mm.data.samplers import SampleIndex
from internvl_mm.registry import TRANSFORMS
from internvl_mm.structures import ChatRecord
from internvl_mm.utils.console import console
from internvl_mm.utils.errors import ConfigError, DataError, did_you_mean
from internvl_mm.utils.hashing import hash_settings
from internvl_mm.utils.paths import ExistingFile

KINDS = ('.jsonl', '.tar', '.parquet', '.arrow')


@dataclass(frozen=True)
class MetaEntry:
    """One data set of a meta file, its paths resolved.

    Attributes:
        name: Key in the file.
        annotation: The samples.
        root: Prefix of image and video paths.
        repeat_time: Below 1 the first share of the samples, above it whole repetitions.
        data_augment: Degrade tiles by JPEG.
        max_dynamic_patch: Most tiles of a sample.
    """

    name: str
    annotation: str
    root: str = ''
    repeat_time: float = 1
    data_augment: bool = False
    max_dynamic_patch: int | None = None


def read_meta(file: str | Path) -> list[MetaEntry]:
    """Read a meta file: a JSON object from name to ``root``, ``annotation``, ``repeat_time``, ….

    Relative paths are looked for in the folder of the meta file where they exist there, else in the working folder,
    as published.

    Raises:
        DataError: It is no such file, or an entry is wrong.
    """
    path = Path(file)
    try:
        content = json.loads(path.read_text(encoding='utf-8'), object_pairs_hook=_once)
    except (OSError, ValueError) as error:
        raise DataError(f"meta file '{file}' cannot be read as JSON ({error})") from error
    if not isinstance(content, dict) or not content:
        raise DataError(f"meta file '{file}' has to be an object from names of data sets to their settings")
    return [_entry(name, fields, path) for name, fields in content.items()]


class MetaMixture(GuardedDataset):
    """All data sets of a meta file, one after the other; the sampler shuffles.

    A subclass says what an entry becomes: ``part`` takes an annotation and an encoder, and has ``load_row(row, index)``
    beside what every data set has.

    Args:
        meta: The meta file.
        encoder: A :class:`ChatEncoder` or its config, shared by all.
        caps: Most samples of a data set, by name: a random choice, the same for the same ``seed``.
        weights: How often a sample of a data set is seen relative to the others, by name, 1 by default: 0.5 leaves
            out half of the samples, 2.5 sees each two or three times.
        seed: Of the choices.
        name: See :class:`GuardedDataset`.
        on_error: See :class:`GuardedDataset`.

    Attributes:
        datasets: One data set per entry.
        counts: Samples of each in one epoch, by name.

    Raises:
        DataError: The meta file or an annotation cannot be used.
        ConfigError: A cap or weight names no data set, or is not possible.
    """

    part: ClassVar[type]
    # What a repeat_time below 1 takes: the head of the file, or a random share.
    share_at_random: ClassVar[bool] = False

    def __init__(
        self,
        meta: ExistingFile,
        encoder: Callable[[ChatRecord], Any] | dict,
        *,
        caps: Mapping[str, int] | None = None,
        weights: Mapping[str, float] | None = None,
        seed: int = 0,
        name: str | None = None,
        on_error: OnError = 'fail',
    ):
        super().__init__(name=name, on_error=on_error)
        built = TRANSFORMS.build(encoder) if isinstance(encoder, dict) else encoder
        entries = read_meta(meta)
        caps, weights = dict(caps or {}), dict(weights or {})
        _check_names(entries, caps=caps, weights=weights)
        self.datasets = [
            self.part(
                entry.annotation,
                built,
                root=entry.root,
                max_tiles=entry.max_dynamic_patch,
                augment=entry.data_augment,
                name=entry.name,
            )
            for entry in entries
        ]
        rows = []
        for number, (entry, dataset) in enumerate(zip(entries, self.datasets)):
            # By data set, so that a cap on one leaves the choices of the others.
            rng = np.random.default_rng((seed, number))
            share = _share(len(dataset), entry.repeat_time, rng if self.share_at_random else None)
            rows.append(choose_rows(share, caps.get(entry.name), weights.get(entry.name, 1), rng))
        self.counts = {entry.name: len(part) for entry, part in zip(entries, rows)}
        # Two arrays instead of a list of pairs: workers share their memory, and 10 M samples take 120 MB.
        self._which = np.repeat(np.arange(len(rows), dtype=np.int32), [len(part) for part in rows])
        self._row = np.concatenate(rows)
        if not len(self):
            raise DataError(f"meta file '{meta}': repeat_time, caps and weights leave no sample")

    def __len__(self) -> int:
        return len(self._row)

    def locate(self, index: int) -> tuple[Any, int]:
        """Data set and row of a sample."""
        return self.datasets[self._which[index]], int(self._row[index])

    def load(self, index: SampleIndex) -> dict[str, Any]:
        """See :meth:`GuardedDataset.load`."""
        dataset, row = self.locate(index)
        return dataset.load_row(row, index)

    def path(self, index: int) -> str:
        """File and line."""
        dataset, row = self.locate(index)
        return dataset.path(row)

    @property
    def metainfo(self) -> dict[str, Any]:
        """See :class:`GuardedDataset`; ``mixture`` says how many samples of each data set there are."""
        return dict(self.datasets[0].metainfo, name=self.name, mixture=self.counts)

    def fingerprint(self) -> str:
        """See :class:`GuardedDataset`."""
        return hash_settings(
            dict(
                parts=[dataset.fingerprint() for dataset in self.datasets],
                rows=hashlib.sha256(self._row.tobytes()).hexdigest(),
            )
        )


def _entry(name: str, fields: Any, file: Path) -> MetaEntry:
    where = f"meta file '{file}', data set '{name}'"
    if not isinstance(fields, dict) or not isinstance(fields.get('annotation'), str):
        raise DataError(f"{where}: needs 'annotation', the path of its samples")
    _check_keys(fields, where)
    repeat, tiles = fields.get('repeat_time', 1), fields.get('max_dynamic_patch')
    # JSON's true is an int to Python, and would count as 1.
    if isinstance(repeat, bool) or not isinstance(repeat, (int, float)) or repeat <= 0:
        raise DataError(f'{where}: repeat_time={repeat!r} has to be a number above 0')
    # Published trainers repeat whole files: 2.5 stops one of them, and others cut it down to 2.
    if repeat > 1 and repeat != int(repeat):
        raise DataError(
            f'{where}: repeat_time={repeat!r} above 1 has to be whole; a weight may be a fraction'
        )
    if tiles is not None and (isinstance(tiles, bool) or not isinstance(tiles, int) or tiles < 1):
        raise DataError(f'{where}: max_dynamic_patch={tiles!r} has to be a whole number from 1')
    augment = fields.get('data_augment', False)
    # The text "false" would count as true.
    if not isinstance(augment, bool):
        raise DataError(f'{where}: data_augment={augment!r} has to be true or false, without quotes')
    annotation = _resolve(fields['annotation'], file.parent)
    if not annotation.endswith(KINDS) and not Path(annotation).is_dir():
        raise DataError(
            f'{where}: annotation {annotation!r} has to end in {", ".join(KINDS)}, or be a folder'
        )
    return MetaEntry(
        name=name,
        annotation=annotation,
        # null is as good as no root: paths stand for themselves.
        root=_resolve(str(fields.get('root') or ''), file.parent),
        repeat_time=repeat,
        data_augment=augment,
        max_dynamic_patch=tiles,
    )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose names are all different; Python's reader keeps the last of equal ones."""
    names = [name for name, _ in pairs]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ValueError(f"'{twice[0]}' is given {names.count(twice[0])} times; give each a name of its own")
    return dict(pairs)


def _check_keys(fields: dict[str, Any], where: str) -> None:
    """Refuse slips of the pen, and tell what else is not read: other trainers' settings do no harm."""
    known = {field.name for field in fields_of(MetaEntry)} - {'name'}
    # The first is for readers; the second is a setting of other trainers, however like ours it looks.
    for key in sorted(fields.keys() - known - {'length'}):
        hint = did_you_mean(key, known) if key != 'min_dynamic_patch' else ''
        if hint:
            raise DataError(f"{where}: '{key}' is no setting; there are {', '.join(sorted(known))}.{hint}")
        console.print(f"{where}: '{key}' is not read", style='yellow', highlight=False)


def _resolve(path: str, folder: Path) -> str:
    # An object store's address is no path to look for.
    if not path or '://' in path:
        return path
    # Published meta files are written for the folder a training starts in; ours can be moved as a whole.
    beside = join_root(str(folder), path)
    # Shards are named with braces, and no file has that name: the first of them decides.
    return beside if Path(next(iter(braceexpand(beside)))).exists() else path


def _check_names(entries: list[MetaEntry], **settings: Mapping[str, float]) -> None:
    names = [entry.name for entry in entries]
    for setting, values in settings.items():
        for name, value in values.items():
            if name not in names:
                raise ConfigError(
                    f"{setting} names '{name}', but the meta file has {', '.join(names)}.{did_you_mean(name, names)}"
                )
            if not isinstance(value, (int, float)) or value < 0:
                raise ConfigError(f"{setting}['{name}']={value!r} has to be a number from 0")


def _share(length: int, repeat_time: float, rng: np.random.Generator | None) -> np.ndarray:
    """Rows that ``repeat_time`` asks for, as published: all of them so many times, or a share of them."""
    if repeat_time >= 1:
        return np.tile(np.arange(length), int(repeat_time))
    count = int(length * repeat_time)
    return np.arange(count) if rng is None else np.sort(rng.permutation(length)[:count])


def choose_rows(rows: np.ndarray, cap: float | None, weight: float, rng: np.random.Generator) -> np.ndarray:
    """Rows of one epoch, int64: at most ``cap`` of them, then each ``weight`` times."""
    if cap is not None and len(rows) > cap:
        # Sorted, so that neighbours stay neighbours on disk; the sampler shuffles anyway.
        rows = np.sort(rng.permutation(rows)[: int(cap)])
    # Every row so many times, and a random choice of rows once more.
    whole, rest = divmod(round(len(rows) * weight), max(len(rows), 1))  # 2.5: twice, and half of them again
    parts = [rows] * whole + [np.sort(rng.permutation(rows)[:rest])]
    return np.concatenate(parts).astype(np.int64)
