"""Plans of packs kept on disk, so that only the first start of a run makes one."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path

import numpy as np

from internvl_mm.data.packing import WINDOW, PackPlan, plan_packs
from internvl_mm.utils.errors import DataError

_VERSION = 1  # of the planner: raise it when the same sizes give another plan
_FILLS = ('token_fill', 'tile_fill')
_ARRAYS = ('members', 'starts', 'left_out')


def find_plan(
    sizes: np.ndarray, *, max_tokens: int, max_tiles: int, seed: int, folder: str | Path | None
) -> PackPlan:
    """The plan of :func:`plan_packs`, from a file if it was made before.

    Args:
        sizes: int ``[N, 2]``, see :func:`plan_packs`.
        max_tokens: See :func:`plan_packs`.
        max_tiles: See :func:`plan_packs`.
        seed: See :func:`plan_packs`.
        folder: Where plans are kept, under a hash of all that decides them; ``None`` makes one each time.

    Raises:
        DataError: No sample fits, or the folder cannot be written.
    """
    if folder is None:
        return plan_packs(sizes, max_tokens=max_tokens, max_tiles=max_tiles, seed=seed)
    # int64 whatever comes in, so that equal sizes have one key.
    key = hashlib.sha256(np.ascontiguousarray(sizes, np.int64).tobytes())
    key.update(repr((_VERSION, WINDOW, max_tokens, max_tiles, seed)).encode())
    file = Path(folder) / f'packs_{key.hexdigest()[:24]}.npz'
    plan = _read(file)
    if plan is None:
        plan = plan_packs(sizes, max_tokens=max_tokens, max_tiles=max_tiles, seed=seed)
        _write(file, plan)
    return plan


def _read(file: Path) -> PackPlan | None:
    """A kept plan; a damaged file is made anew."""
    if not file.is_file():
        return None
    try:
        # No pickles: the folder may be shared, and a pickle can run any code.
        with np.load(file, allow_pickle=False) as content:
            arrays = {name: content[name] for name in _ARRAYS}
            fills = {name: float(content[name]) for name in _FILLS}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    return PackPlan(**arrays, **fills)


def _write(file: Path, plan: PackPlan) -> None:
    # Processes of one run may all plan: each writes a file of its own, and the rename is atomic.
    own = file.with_name(f'{file.stem}.{os.getpid()}.npz')
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # Uncompressed: packing the arrays would take longer than reading them ever does.
        np.savez(own, **{name: getattr(plan, name) for name in (*_ARRAYS, *_FILLS)})
        own.replace(file)
    except OSError as error:
        raise DataError(
            f'{file}: the plan of packs cannot be written ({error.strerror}); choose another plan_folder'
        ) from error
