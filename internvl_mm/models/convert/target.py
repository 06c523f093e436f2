"""Where a conversion is written: refused before any work, and complete or not there at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from internvl_mm.utils.errors import CheckpointError

from .legacy import SUFFIXES

# Endings of the layouts that are a file; the others are folders.
_FILES = {'pth': SUFFIXES, 'projector': ('.safetensors',), 'safetensors': ('.safetensors',)}
_ENDINGS = tuple(ending for endings in _FILES.values() for ending in endings)


def check_target(target: Path, layout: str) -> None:
    """Refuse a name that is taken or of the wrong kind.

    Args:
        target: What to write.
        layout: In which layout.

    Raises:
        CheckpointError: It cannot be written there; an empty folder is no hindrance to a layout that is one.
    """
    endings = _FILES.get(layout, ())
    is_free = not os.path.lexists(target)  # a link to nothing is something, too
    if not is_free and (endings or not target.is_dir() or any(target.iterdir())):
        raise CheckpointError(f'{target} exists: give a new name, nothing is overwritten')
    if target.is_symlink() or target.is_mount():
        raise CheckpointError(f'{target} cannot be replaced by a new folder: name one inside of it')
    if target.suffix not in endings if endings else target.suffix in _ENDINGS:
        kind = f'a file ending in {endings[0]}' if endings else 'a folder, without the ending of a file'
        raise CheckpointError(f'{target}: the {layout} layout is {kind}')


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """A place to write to, which gets the name asked for once the block is done without an error.

    Args:
        target: That name; folders above it are made.

    Raises:
        CheckpointError: It cannot be written there.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix='.converting-') as folder:
            partial = Path(folder) / target.name
            yield partial
            os.replace(partial, target)
    except OSError as error:
        raise CheckpointError(f'{target} cannot be written: {error}') from error
