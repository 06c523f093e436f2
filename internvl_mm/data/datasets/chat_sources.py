"""Where conversations are stored: JSONL files, tables of the ``datasets`` library, and tar shards of webdataset.

Each gives samples by index in the published form, see :func:`internvl_mm.data.chat_records.parse_record`; tables and
shards carry pictures as the bytes of their files.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from abc import ABC, abstractmethod
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from braceexpand import braceexpand

from internvl_mm.data.datasets.tar_shards import IMAGE_SUFFIXES
from internvl_mm.utils.errors import DataError

# Columns of a table that hold the texts of a sample: of conversations, preferences and questions.
FORMS = (('conversations',), ('question', 'chosen', 'rejected'), ('question', 'answer'))


class ChatSource(ABC):
    """Index to one sample as a dict."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of samples."""

    @abstractmethod
    def __getitem__(self, index: int) -> dict[str, Any]:
        """One sample.

        Raises:
            DataError: It cannot be read.
        """

    @abstractmethod
    def path(self, index: int) -> str:
        """Where it stands."""

    @abstractmethod
    def signature(self) -> str:
        """Changes when samples are added, removed or change their length in bytes."""


def open_source(annotation: str) -> ChatSource:
    """Open a ``.jsonl`` file, a ``.tar`` (with braces for several), or a table (``.parquet``, ``.arrow``, a folder).

    Raises:
        DataError: It does not exist, is of another kind, or holds nothing.
    """
    suffix = Path(annotation).suffix
    if suffix == '.jsonl':
        source: ChatSource = JsonLines(annotation)
    elif suffix == '.tar':
        source = TarChats(annotation)
    elif suffix in ('.parquet', '.arrow') or Path(annotation).is_dir():
        source = TableChats(annotation)
    else:
        raise DataError(
            f"annotation '{annotation}' is none of .jsonl, .tar, .parquet, .arrow and folder of such"
        )
    if not len(source):
        raise DataError(f"annotation '{annotation}' holds no sample")
    return source


class JsonLines(ChatSource):
    """One JSON object per line; only the positions of the lines are kept in memory.

    Args:
        file: The file.
    """

    def __init__(self, file: str):
        self.file = file
        try:
            with open(file, 'rb') as lines:
                # 16 bytes per line instead of the line: a million conversations take 16 MB, and workers share it.
                sizes = np.array([len(line) for line in lines], np.int64)
                ends = np.cumsum(sizes)
                # A blank line is no sample, and no mistake.
                lines.seek(0)
                full = np.array([bool(line.strip()) for line in lines], bool)
        except OSError as error:
            raise DataError(
                f"annotation '{file}' cannot be read ({error.strerror}); check the paths of the meta file"
            ) from error
        # Bytes from the start of the file, and lengths, of the lines that are not blank.
        self._start, self._size = (ends - sizes)[full], sizes[full]
        self._number = np.flatnonzero(full) + 1 if not full.all() else None

    def __len__(self) -> int:
        return len(self._start)

    def __getitem__(self, index: int) -> dict[str, Any]:
        # Opened for every sample: forked workers would share the position of one handle.
        with open(self.file, 'rb') as lines:
            lines.seek(self._start[index])
            text = lines.read(self._size[index])
        return _parsed(text, self.path(index))

    def signature(self) -> str:
        """See :meth:`ChatSource.signature`."""
        return _digest(self._size)

    def path(self, index: int) -> str:
        """File and line, as ``train.jsonl:7``."""
        return f'{self.file}:{int(index) + 1 if self._number is None else self._number[index]}'


class TableChats(ChatSource):
    """Rows of Parquet or Arrow files with the published fields as columns; ``image`` or ``images`` may hold bytes.

    Args:
        path: A file, a folder of such, or one written by ``save_to_disk``.
    """

    def __init__(self, path: str):
        import datasets as hf

        from internvl_mm.data.datasets.table import _load_table

        self.source = path
        table = _load_table(Path(path))
        texts = [form for form in FORMS if set(form) <= set(table.column_names)]
        if not texts:
            forms = ', or '.join(map(' and '.join, FORMS))
            raise DataError(f'{path}: needs the columns {forms}; it has {", ".join(table.column_names)}')
        self._texts = sorted(set().union(*texts))
        if 'images' in table.column_names and 'image' not in table.column_names:
            # The published field of one and of several pictures is called 'image'.
            table = table.rename_column('images', 'image')
        feature = table.features.get('image')
        # Leave decoding to our decoder: its bounds and errors are the same for every source.
        if isinstance(feature, hf.Image):
            table = table.cast_column('image', hf.Image(decode=False))
        elif isinstance(feature, hf.List) and isinstance(feature.feature, hf.Image):
            table = table.cast_column('image', hf.List(hf.Image(decode=False)))
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> dict[str, Any]:
        # A table has every column in every row; what a sample does not have is None there.
        row = {key: value for key, value in self._table[int(index)].items() if value is not None}
        if 'image' in row:
            cells = row['image'] if isinstance(row['image'], list) else [row['image']]
            row['image'] = [_cell(cell) for cell in cells]
        return row

    def signature(self) -> str:
        """See :meth:`ChatSource.signature`."""
        # Without the pictures, whose bytes would all be read.
        texts = self._table.select_columns(self._texts)
        return _digest(np.array([[len(str(row[name])) for name in self._texts] for row in texts], np.int64))

    def path(self, index: int) -> str:
        """Table and row, as ``table.parquet[7]``."""
        return f'{self.source}[{int(index)}]'


class TarChats(ChatSource):
    """Uncompressed tar files: ``<key>.json`` with the published fields beside its pictures in order of their names.

    One picture is ``<key>.jpg``; several are ``<key>.0.jpg``, ``<key>.1.jpg``, …. The ``image`` field is not read.

    Args:
        shards: Path of a shard, with braces for several: ``'train-{0000..1023}.tar'``.
    """

    def __init__(self, shards: str):
        self._shards = [Path(path) for path in braceexpand(shards)]
        # (shard, offset, size) of every member, samples one after the other, each beginning with its JSON.
        members: list[tuple[int, int, int]] = []
        starts, self._keys = [], []
        for number, shard in enumerate(self._shards):
            for key, files in _samples_of(shard):
                starts.append(len(members))
                self._keys.append(key)
                # offset_data lies behind the member's header: its bytes are read without tarfile.
                members += [(number, file.offset_data, file.size) for file in files]
        # The array of no members at all is [0], and needs its three columns too.
        self._members = np.array(members, np.int64).reshape(-1, 3)
        self._starts = np.array([*starts, len(members)], np.int64)  # [samples + 1]

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> dict[str, Any]:
        description, *pictures = (
            self._read(*member)
            for member in self._members[self._starts[index] : self._starts[index + 1]].tolist()
        )
        return {**_parsed(description, self.path(index)), 'image': pictures}

    def _read(self, number: int, offset: int, size: int) -> bytes:
        try:
            with open(self._shards[number], 'rb') as file:
                file.seek(offset)
                return file.read(size)
        except OSError as error:
            raise DataError(f'{self._shards[number]}: cannot be read ({error.strerror})') from error

    def signature(self) -> str:
        """See :meth:`ChatSource.signature`."""
        return _digest(self._members)

    def path(self, index: int) -> str:
        """Shard and key, as ``shard.tar/key``."""
        return f'{self._shards[self._members[self._starts[index], 0]]}/{self._keys[index]}'


def _parsed(text: bytes, path: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except ValueError as error:
        raise DataError(f'{path}: not JSON ({error})') from error
    if not isinstance(line, dict):
        raise DataError(f'{path}: a sample is {type(line).__name__} {line!r:.80} instead of an object')
    return line


def _samples_of(shard: Path) -> list[tuple[str, list[tarfile.TarInfo]]]:
    """Key, and JSON followed by pictures, of every sample of a shard."""
    found = []
    try:
        # 'r:' refuses compressed files, in which no member could be reached without reading all before it.
        with tarfile.open(shard, 'r:') as archive:
            files = [member for member in archive if member.isreg() and not member.issparse()]
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f'{shard}: missing, damaged, or not an uncompressed tar file ({error})') from error
    for key, members in groupby(files, key=lambda member: _key(member.name)):
        group = list(members)
        by_kind = {member.name.rpartition('.')[2].lower(): member for member in group}
        if 'json' not in by_kind:
            raise DataError(f'{shard}/{key}: has {sorted(by_kind)} but no .json with its conversations')
        texts = [member.name for member in group if member.name.lower().endswith('.json')]
        if len(texts) > 1:
            raise DataError(
                f'{shard}/{key}: has {len(texts)} .json, {texts[0]} and {texts[1]} among them; a key ends at the first '
                'dot of a name (the rule of webdataset), so it may not hold a dot: rename the members'
            )
        pictures = [member for member in group if member.name.rpartition('.')[2].lower() in IMAGE_SUFFIXES]
        found.append((key, [by_kind['json'], *sorted(pictures, key=lambda member: _place(member.name))]))
    return found


def _digest(sizes: np.ndarray) -> str:
    return hashlib.sha256(sizes.tobytes()).hexdigest()


def _key(name: str) -> str:
    folder, slash, file = name.rpartition('/')
    # Up to the first dot: key.json, key.0.jpg and key.1.jpg are one sample.
    return folder + slash + file.partition('.')[0]


def _place(name: str) -> tuple[int, str]:
    """Order of ``key.10.jpg`` after ``key.9.jpg``."""
    middle = name.rpartition('/')[2].split('.')[1:-1]
    return (int(middle[0]), name) if middle and middle[0].isdigit() else (0, name)


def _cell(cell: Any) -> str | bytes:
    """Bytes of a picture, or its path where the table holds no bytes."""
    if isinstance(cell, dict):
        # '' is no picture to parse_record, which then finds a placeholder too many.
        return cell.get('bytes') or cell.get('path') or ''
    return cell
