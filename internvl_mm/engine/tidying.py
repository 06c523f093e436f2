"""What earlier starts of a training left in its work_dir: states beyond ``keep_last``, and what killed writers left.

A training that is stopped and resumed has a run folder for every start. Each start knows its *ancestors*: the run
folders it goes on from, and the state at which it left each of them. Only states on that way are ever deleted, so
that another training in the same work_dir, or a later part of one that was given up, stays.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from internvl_mm.evaluation.report import ENVIRONMENT
from internvl_mm.utils.errors import CheckpointError
from internvl_mm.utils.process import is_dead, this_process
from internvl_mm.utils.states import LATEST, MANIFEST, find_states, state_position

from .checkpoint import BEST, delete_state, remove_tree
from .patience import PATIENCE

# Run folder and the state it was left at, the oldest first; lists, because that is how states keep them.
Ancestors = list[list[str]]
# How checkpoint.py names a folder that it writes, moves out of the way, or deletes.
_LEFTOVER = re.compile(r'\.((?:iter|epoch)_\d+)\.(unfinished|replaced|deleted)')


def ancestors_of(state: Path | None, known: Iterable[Sequence[str]], work_dir: Path) -> Ancestors:
    """The ancestors of a run.

    Args:
        state: The state it goes on from; ``None`` without one.
        known: The ancestors of the run that wrote the state.
        work_dir: Of the run; a state elsewhere makes no ancestors.
    """
    # <work_dir>/<run>/checkpoints/<state>.
    if state is None or state.resolve().parents[2:3] != (work_dir.resolve(),):
        return []
    run = state.parents[1].name
    return [*([name, left] for name, left in known if name != run), [run, state.name]]


def prune_ancestors(
    work_dir: Path, own: Path, ancestors: Ancestors, *, keep_last: int, best: tuple[str, str] | None = None
) -> list[Path]:
    """Delete the states of ancestors that are not among the newest, the run's own counted first.

    Called once a state of the run is complete, and its own folder pruned. The states of an ancestor that still trains,
    in another process of this machine, stay until it has ended: they may be all it has.

    Args:
        work_dir: Of the run.
        own: The run's folder of states.
        ancestors: From :func:`ancestors_of`.
        keep_last: How many of the newest to keep in all.
        best: Run folder and name of the best state, which is kept; so is what the file ``best`` of a folder names.

    Returns:
        What was deleted.

    Raises:
        CheckpointError: One cannot be deleted, or the file ``latest`` that names it.
    """
    room = keep_last - len(find_states(own))
    doomed: list[Path] = []
    # The newest first: an older run may keep what newer ones leave of keep_last.
    for run, left in reversed(ancestors):
        folder = _folder_of(work_dir, run)
        if folder is None or folder == own.resolve():
            continue
        passed = [state for state in find_states(folder) if _is_passed(state, Path(left))]
        passed.sort(key=state_position, reverse=True)
        kept = {_named(folder, BEST), best[1] if best is not None and best[0] == run else None}
        old = [state for state in passed[max(room, 0) :] if state.name not in kept]
        room -= len(passed)
        if old and _still_trains(folder.parent):
            continue
        # A pointer to a state that is gone helps nobody.
        if _named(folder, LATEST) in [state.name for state in old]:
            _remove_pointer(folder / LATEST)
        for state in old:
            delete_state(state)
        doomed += old
    return doomed


def remove_leftovers(work_dir: Path, own: Path) -> tuple[list[Path], list[Path]]:
    """Remove what writers of other runs of a work_dir never finished, if they are dead.

    Dead is a process of this machine that has ended, or, where that cannot be seen, one that has not touched the
    folder for a day. Halves of deletions go in any case.

    Args:
        work_dir: Of the run.
        own: The run's own folder of states, which is left alone.

    Returns:
        What was removed, and what could not be.
    """
    removed: list[Path] = []
    failed: list[Path] = []
    # Through _folder_of again: a link must not lead the deletion out of work_dir.
    for found in work_dir.glob('*/checkpoints'):
        folder = _folder_of(work_dir, found.parent.name)
        if folder is None or folder == own.resolve():
            continue
        for path in folder.iterdir():
            match = _LEFTOVER.fullmatch(path.name)
            if not match or path.is_symlink() or not path.is_dir():
                continue
            name, kind = match.groups()
            # Killed between two renames: the state under its other name may be the only whole one.
            if kind == 'replaced' and not (folder / name / MANIFEST).is_file():
                continue
            if kind == 'deleted' or _is_dead(folder.parent, path):
                try:
                    remove_tree(path)
                    removed.append(path)
                except OSError:
                    failed.append(path)
    return removed, failed


def _folder_of(work_dir: Path, run: str) -> Path | None:
    """The folder of states of a run; ``None`` when there is none, or it is a link to somewhere else."""
    folder = (work_dir / run / 'checkpoints').resolve()
    return folder if folder.is_dir() and folder.is_relative_to(work_dir.resolve()) else None


def _is_passed(state: Path, left: Path) -> bool:
    """Whether training passed through a state before the one at which a folder was left, or it is that one."""
    same_kind = state.name.partition('_')[0] == left.name.partition('_')[0]  # iter or epoch
    return same_kind and state_position(state) <= state_position(left)


def _named(folder: Path, pointer: str) -> str | None:
    try:
        # Damaged ones name no state, and are no reason to end a training.
        return (folder / pointer).read_text('utf-8', 'replace').strip()
    except OSError:
        return None


def _remove_pointer(pointer: Path) -> None:
    try:
        pointer.unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(
            f'{pointer} was not deleted ({error}), nor the states beside it: make their folder writable'
        ) from error


def _mark(run: Path) -> Any:
    """Which process writes a run folder; ``None`` of one of an older version, or killed before it wrote that."""
    try:
        return json.loads((run / ENVIRONMENT).read_text('utf-8')).get('process')
    except (OSError, ValueError):
        return None


def _still_trains(run: Path) -> bool:
    mark = _mark(run)
    # A process that goes on itself, as a notebook does, has ended the training it goes on from.
    return is_dead(mark) is False and mark != this_process()


def _is_dead(run: Path, leftover: Path) -> bool:
    dead = is_dead(_mark(run))
    if dead is not None:
        return dead
    try:
        touched = max(path.stat().st_mtime for path in (leftover, *leftover.iterdir()))
    except OSError:
        return False  # it changes right now
    return time.time() - touched > PATIENCE.total_seconds()
