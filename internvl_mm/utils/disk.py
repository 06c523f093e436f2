"""What can go wrong with the place results are written to: no right to write there, no room left."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

from .errors import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT)  # the disk has no room, or the user's quota has none


def is_full(error: Exception) -> bool:
    """Whether an error of writing says that the disk, or the user's part of it, is full."""
    # safetensors passes the system's error on as text.
    return getattr(error, 'errno', None) in _FULL or 'No space left' in str(error)


def free_space(path: Path) -> str:
    """Room left where a file lies or would lie, in words, e.g. ``'0.3 GiB free'``."""
    existing = next(place for place in (path, *path.absolute().parents) if place.exists())
    return f'{shutil.disk_usage(existing).free / 2**30:.1f} GiB free'


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that no reader, and no later run, ever sees half of it: beside the target, then renamed.

    Not synced: after a power cut the old file may be back. What has to survive that is a training state.
    """
    scratch = path.with_name(f'.{path.name}.unfinished')
    try:
        scratch.write_text(text, encoding='utf-8')
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)  # a disk that is full keeps what fitted


def check_writable(folder: str | Path, *, setting: str, way_out: str) -> None:
    """Make a folder and write into it.

    Args:
        folder: The folder.
        setting: Which setting names it, for the error.
        way_out: How to name another.

    Raises:
        UserError: That is not possible.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        # By writing: permission bits say nothing on network file systems, quotas or read-only mounts.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"{setting}='{folder}' is not writable ({error.strerror}): {way_out}, or free space"
        ) from error
