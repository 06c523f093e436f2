"""Where training states lie: ``<work_dir>/<time>/checkpoints/iter_000123/``, with a file ``latest`` beside them."""

from __future__ import annotations

import re
from pathlib import Path

from internvl_mm.utils.errors import CheckpointError

LATEST = 'latest'  # names the newest state of its folder
MANIFEST = 'manifest.json'  # written last: a state without it is not complete


def find_states(parent: Path) -> list[Path]:
    """Complete training states of a folder (named ``iter_*`` or ``epoch_*``)."""
    return [path for path in parent.glob('*_*') if state_position(path) >= 0 and (path / MANIFEST).is_file()]


def state_position(path: Path) -> int:
    """Iteration or epoch in the name of a state, -1 for other names."""
    match = re.fullmatch(r'(?:iter|epoch)_(\d+)', path.name)
    return int(match[1]) if match else -1


def newest_states(path: str | Path) -> list[Path]:
    """Complete training states below a folder of states, a run folder or a folder of runs, the newest first."""
    path = Path(path)
    # Run folders are named by time, so the last name is the newest run; it may not have saved anything yet.
    runs = sorted((run for run in path.glob('*/checkpoints') if run.is_dir()), reverse=True)
    found: list[Path] = []
    # The path may be the folder of states, a run folder or a work_dir: whatever the user has at hand.
    for parent in (path, path / 'checkpoints', *runs):
        states = find_states(parent) if parent.is_dir() else []
        # Without a pointer (killed between a state and its pointer) the one written last counts.
        states.sort(key=lambda state: state.stat().st_mtime, reverse=True)
        pointer = parent / LATEST
        named = parent / pointer.read_text('utf-8', 'replace').strip() if pointer.is_file() else None
        # It moves to verified states only; a newer folder was never pointed to.
        if named in states:
            states = [named, *(state for state in states if state != named)]
        found += states
    return found


def latest_state(path: str | Path) -> Path | None:
    """The first of :func:`newest_states`; ``None`` without one."""
    return next(iter(newest_states(path)), None)


def find_state(path: str | Path) -> Path:
    """A training state from its own folder, a run folder or a work_dir.

    Raises:
        CheckpointError: There is none.
    """
    path = Path(path)
    if (path / MANIFEST).is_file():
        return path
    state = latest_state(path) if path.is_dir() else None
    if state is None:
        what = 'holds no training state' if path.exists() else 'does not exist'
        raise CheckpointError(
            f'cannot resume from {path}: it {what}. Give a folder such as work_dirs/<config>/<time>/checkpoints/'
            'iter_000100; to start from weights only, set load_from instead'
        )
    return state
