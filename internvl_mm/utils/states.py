"""Where training states lie: ``<work_dir>/<time>/checkpoints/iter_000123/``, with a file ``latest`` beside them.

Here too is how they are checked before they are read: whoever takes weights from one may not import the engine.
"""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any

from internvl_mm.utils.console import console
from internvl_mm.utils.errors import CheckpointError
from internvl_mm.utils.hashing import hash_file

LATEST = 'latest'  # names the newest state of its folder
MANIFEST = 'manifest.json'  # written last: a state without it is not complete
META = 'meta.json'  # of every state: position, seed, versions
MODEL = 'model.safetensors'  # of a state: the whole model, or its trainable part
SHARES = '.shares.json'  # end of the index of tensors of which every process wrote a share
MODEL_SHARES = f'model{SHARES}'  # in place of MODEL, of strategies that share out weights
_CLOCK_STEP = 3.0  # seconds, above the coarsest times of change that file systems keep (2 s on FAT)
# Path, inode, size, time of change and sha256 of files that were read.
_seen_sound: set[tuple[Any, ...]] = set()


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


def model_file(state: Path) -> Path:
    """Where to begin reading the model of a state: its only file, or the index of its shares."""
    shares = state / MODEL_SHARES
    return shares if shares.is_file() else state / MODEL


# ---- damage ----------------------------------------------------------------------------------------------------------


def is_state(folder: Path) -> bool:
    """Whether a folder is a training state, or a renamed one: other tools, too, write files called manifest.json."""
    ours = state_position(folder) >= 0 or (folder / META).is_file()
    return ours and (folder / MANIFEST).is_file()


def read_manifest(state: Path) -> dict[str, tuple[int, str]]:
    """Size and sha256 of every file of a training state, by name.

    Raises:
        CheckpointError: The manifest is damaged itself.
    """
    try:
        manifest = json.loads((state / MANIFEST).read_text('utf-8'))
        # A flipped bit may leave good JSON of another shape.
        listed = {name: (entry['size'], entry['sha256']) for name, entry in manifest.items()}
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise CheckpointError(
            f'{state}: {MANIFEST} cannot be read ({type(error).__name__}: {error}); use an older checkpoint'
        ) from error
    if not listed:
        raise CheckpointError(f'{state}: {MANIFEST} lists no file; use an older checkpoint')
    return listed


def check_files(state: Path, *, only: str | None = None) -> None:
    """Compare a state's files with its manifest, content included; a file that did not change since is read once.

    Args:
        state: Folder of the state.
        only: The one file that is going to be read, an index with what it names; all when left out.

    Raises:
        CheckpointError: A file is missing, cut short or changed.
    """
    listed = read_manifest(state)
    if only not in (None, *listed):
        raise CheckpointError(f'{state}: {MANIFEST} does not list {only}; use an older checkpoint')
    # 'model.shares.json' stands for 'model.rank0.safetensors' and so on.
    shares = f'{only.removesuffix(SHARES)}.rank' if only and only.endswith(SHARES) else None
    for name, (size, sha256) in listed.items():
        if only not in (None, name) and not (shares and name.startswith(shares)):
            continue
        # Size before content: it costs nothing, and tells a file cut short from one that was changed.
        path = state / name
        found = path.stat() if path.is_file() else None
        if found is None:
            problem = 'is missing'
        elif found.st_size != size:
            problem = f'has {found.st_size} bytes instead of {size}'
        elif not _has_hash(path, found, sha256):
            problem = 'was changed after it was written (sha256 differs)'
        else:
            continue
        raise CheckpointError(f'{path} {problem}: the checkpoint is damaged, use an older one')


def _has_hash(path: Path, found: os.stat_result, expected: str) -> bool:
    """Whether a file has a sha256, read only when this process has not seen so already."""
    # Whoever chooses a state to resume from reads it a moment later: of a terabyte, minutes each.
    key = (str(path.absolute()), found.st_ino, found.st_size, found.st_mtime_ns, expected)
    if key in _seen_sound:
        return True
    sound = hash_file(path) == expected
    # Another change within the steps of the file system's clock would not show.
    if sound and time.time() - found.st_mtime > _CLOCK_STEP:
        _seen_sound.add(key)
    return sound


def sound_state(path: str | Path, *, model_only: bool = False) -> Path | None:
    """The newest undamaged training state below a folder, or at it; damaged ones are passed over, aloud.

    Args:
        path: A state, a folder of states, a run folder or a folder of runs.
        model_only: Nothing but the model is going to be read.

    Raises:
        CheckpointError: The path is a damaged state itself, or every state below it is damaged.
    """

    def check(state: Path) -> None:
        check_files(state, only=model_file(state).name if model_only else None)

    path = Path(path)
    if (path / MANIFEST).is_file():
        check(path)
        return path
    states, problem = newest_states(path), None
    for state in states:
        try:
            check(state)
        except CheckpointError as error:
            problem = error
            console.print(f'passed over: {error}', style='yellow', highlight=False)
            continue
        if problem is not None:
            console.print(f'falling back to {state}', style='yellow', highlight=False)
        return state
    if problem is not None:
        raise CheckpointError(f'{path}: all {len(states)} training states are damaged, the oldest: {problem}')
    return None
