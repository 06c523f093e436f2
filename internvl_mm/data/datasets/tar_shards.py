"""Samples in tar files, as webdataset lays them out."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Sequence
from glob import glob
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from braceexpand import braceexpand

from internvl_mm.data.datasets.base import BaseDataset, numbered_classes
from internvl_mm.data.samplers import SampleIndex
from internvl_mm.registry import DATASETS
from internvl_mm.utils.console import track
from internvl_mm.utils.errors import DataError

IMAGE_SUFFIXES = ('jpg', 'jpeg', 'png', 'webp', 'bmp', 'gif', 'tif', 'tiff')
LABEL_SUFFIXES = ('cls', 'json')


class _Member(NamedTuple):
    """An image inside a shard: its name, where its bytes lie, and its class."""

    name: str
    offset: int
    size: int
    label: int


@DATASETS.register_module()
class TarShardDataset(BaseDataset):
    """Images and labels in uncompressed tar files: ``<key>.jpg`` beside ``<key>.cls`` or ``<key>.json``.

    The shards' headers are read once, so that every sample can then be reached by index: shuffling, resuming and
    exact counts work as for files. Nothing is ever unpacked to disk.

    Args:
        shards: Paths of the shards, with braces for ranges: ``'train-{0000..1023}.tar'``, or stars: ``'test/*.tar'``.
        num_classes: Number of classes.
        label_key: Field that holds the class index in ``.json`` members.
        options: See :class:`BaseDataset`.

    Raises:
        DataError: A shard is missing, damaged or compressed, or a sample lacks its image or its label.
    """

    def __init__(
        self, shards: str | Sequence[str], *, num_classes: int, label_key: str = 'label', **options: Any
    ):
        patterns = [shards] if isinstance(shards, str) else shards
        # A star stands for whatever is there, in order of the names; braces say what has to be there.
        self._shards = [
            Path(path)
            for pattern in patterns
            for each in braceexpand(pattern)
            # A star that finds nothing stays as it is, and is named below as missing.
            for path in (sorted(glob(each)) or [each] if '*' in each else [each])
        ]
        missing = [str(path) for path in self._shards if not path.is_file()]
        if missing:
            raise DataError(
                f'{len(missing)} of {len(self._shards)} shards of {shards!r} do not exist, the first: {missing[0]}'
            )
        found = [
            (number, member)
            for number, shard in track(list(enumerate(self._shards)), 'indexing shards')
            for member in _index_shard(shard, label_key)
        ]
        # [N, 3]: shard, offset and size in bytes.
        self._where = np.array([(number, member.offset, member.size) for number, member in found], np.int64)
        # Bytes, as in PathTable: NumPy's text would take four per letter.
        self._names = np.array([member.name.encode() for _, member in found], np.bytes_)
        super().__init__([member.label for _, member in found], numbered_classes(num_classes), **options)

    def path(self, index: int) -> str:
        """Shard and member, as ``shard.tar/member.jpg``."""
        return f'{self._shards[self._where[index, 0]]}/{bytes(self._names[index]).decode()}'

    def read(self, index: SampleIndex) -> bytes:
        """See :class:`BaseDataset`."""
        number, offset, size = self._where[index].tolist()
        try:
            with open(self._shards[number], 'rb') as file:
                file.seek(offset)
                return file.read(size)
        except OSError as error:
            raise DataError(f'{self._shards[number]}: cannot be read ({error.strerror})') from error


def _index_shard(shard: Path, label_key: str) -> Iterator[_Member]:
    """Images of one shard with their labels; members of a sample follow one another."""
    try:
        # 'r:' refuses compressed files, in which no member could be reached without reading all before it.
        with tarfile.open(shard, 'r:') as archive:
            files = (member for member in archive if member.isreg() and not member.issparse())
            for key, members in groupby(files, key=lambda member: _split_name(member.name)[0]):
                yield _read_sample(archive, f'{shard}/{key}', list(members), label_key)
    except (tarfile.TarError, EOFError) as error:
        raise DataError(
            f'{shard}: damaged, or not an uncompressed tar file ({error}); copy it again, or unpack a compressed one'
        ) from error


def _split_name(name: str) -> tuple[str, str]:
    """Key and lower-case suffix of a member: the suffix begins at the first dot of the file's name."""
    folder, slash, file = name.rpartition('/')
    stem, _, suffix = file.partition('.')
    return folder + slash + stem, suffix.lower()


def _read_sample(
    archive: tarfile.TarFile, where: str, members: list[tarfile.TarInfo], label_key: str
) -> _Member:
    by_suffix = {_split_name(member.name)[1]: member for member in members}
    # In the order of the lists of suffixes: of several images or labels the first is taken.
    images = [by_suffix[suffix] for suffix in IMAGE_SUFFIXES if suffix in by_suffix]
    labels = [by_suffix[suffix] for suffix in LABEL_SUFFIXES if suffix in by_suffix]
    if not images or not labels:
        raise DataError(
            f'{where}: has members {sorted(by_suffix)}; a sample needs an image ({", ".join(IMAGE_SUFFIXES)}) and a '
            'label (cls or json) side by side'
        )
    file = archive.extractfile(labels[0])
    content = file.read() if file else b''
    label = _parse_label(content, label_key if labels[0].name.lower().endswith('json') else None, where)
    # offset_data lies behind the member's header: a sample is read without tarfile.
    return _Member(images[0].name, images[0].offset_data, images[0].size, label)


def _parse_label(content: bytes, label_key: str | None, where: str) -> int:
    """The class index in a ``.cls`` file, or in a field of a ``.json`` file."""
    try:
        return int(content) if label_key is None else int(json.loads(content)[label_key])
    except (ValueError, KeyError, TypeError) as error:
        expected = 'a class index' if label_key is None else f"JSON with a class index under '{label_key}'"
        raise DataError(f'{where}: its label is {content[:80]!r} instead of {expected}') from error
