"""Arrays that cost time to compute, kept in a file for the next run."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from internvl_mm.utils.errors import DataError


def read_kept(file: Path, names: Sequence[str]) -> dict[str, np.ndarray] | None:
    """Arrays by name; ``None`` where there is no such file, or a damaged or foreign one: they are computed anew."""
    if not file.is_file():
        return None
    try:
        # No pickles: the folder may be shared, and a pickle can run any code.
        with np.load(file, allow_pickle=False) as content:
            return {name: content[name] for name in names}
    # An empty file ends early, a bad archive or header is a BadZipFile or ValueError, flipped bytes fail in zlib, or ask
    # zipfile for another version or a password (RuntimeError).
    except (OSError, EOFError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return None


def write_kept(
    file: Path, arrays: Mapping[str, np.ndarray | float], *, compressed: bool, remedy: str
) -> None:
    """Keep arrays, so that no reader ever sees half a file.

    Args:
        file: Where; its folders are made.
        arrays: By name.
        compressed: Smaller, and slower to write.
        remedy: What the user can do where writing fails, for the message.

    Raises:
        DataError: It cannot be written.
    """
    # Processes of one run may all write it: each has a file of its own, and the rename is atomic.
    own = file.with_name(f'{file.stem}.{os.getpid()}.npz')
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        (np.savez_compressed if compressed else np.savez)(own, **arrays)
        own.replace(file)
    except OSError as error:
        raise DataError(f'{file} cannot be written ({error.strerror}): {remedy}') from error
