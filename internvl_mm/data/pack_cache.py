"""Plans of packs kept on disk, so that only the first start of a run makes one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from internvl_mm.data.packing import WINDOW, PackPlan, plan_packs
from internvl_mm.utils.kept_arrays import read_kept, write_kept

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
    kept = read_kept(file, (*_ARRAYS, *_FILLS))
    if kept is not None:
        return PackPlan(**{name: float(value) if name in _FILLS else value for name, value in kept.items()})
    plan = plan_packs(sizes, max_tokens=max_tokens, max_tiles=max_tiles, seed=seed)
    arrays = {name: getattr(plan, name) for name in (*_ARRAYS, *_FILLS)}
    # Uncompressed: packing the arrays would take longer than reading them ever does.
    write_kept(file, arrays, compressed=False, remedy='choose another plan_folder')
    return plan
