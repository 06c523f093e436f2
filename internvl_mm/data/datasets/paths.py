"""File paths of a data set: confined to a root folder, and kept in one array."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from internvl_mm.utils.errors import DataError


def check_confined(relative: str, where: str) -> str:
    """Return a listed path if it stays inside its root folder, whatever the file system holds.

    Links inside the root are the owner's business and are followed.

    Args:
        relative: The path as a list file, table or shard gives it.
        where: What lists it, for the message.

    Raises:
        DataError: The path is absolute, or climbs out with ``..``.
    """
    # The text is searched first, which spares almost every path of millions the parsing.
    climbs = '..' in relative and os.path.normpath(relative).split(os.sep)[0] == '..'
    # No path has a zero byte; NumPy would drop one at the end without a word.
    if os.path.isabs(relative) or climbs or '\0' in relative:
        raise DataError(
            f'{where}: {relative!r} leads out of the root folder; list paths relative to it, without ..'
        )
    return relative


class PathTable:
    """Many paths below one folder, in one array that worker processes share without copying.

    Args:
        root: The folder.
        relative: Paths below it.
    """

    def __init__(self, root: str | Path, relative: Sequence[str]):
        self.root = Path(root)
        # Bytes: NumPy's text would take four per letter. fsencode, since names need not be UTF-8.
        self._encoded = np.array([os.fsencode(path) for path in relative], dtype=np.bytes_)

    def __getitem__(self, index: int) -> Path:
        return self.root / os.fsdecode(bytes(self._encoded[index]))

    def take(self, indices: Sequence[int]) -> PathTable:
        """A table of some of the paths."""
        table = PathTable(self.root, ())
        table._encoded = self._encoded[indices]
        return table


def check_folder(folder: str | Path, holds: str) -> Path:
    """Return a folder that exists.

    Args:
        folder: Where it should be.
        holds: What it should hold, for the message.

    Raises:
        DataError: It is not there, or not a folder.
    """
    path = Path(folder)
    if not path.is_dir():
        problem = 'is a file, not a folder' if path.exists() else 'does not exist'
        raise DataError(f"folder '{path}' {problem}; it should hold {holds}")
    return path
