"""One point of a sweep: a training in a process of its own, kept under the hash of its config."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from internvl_mm.utils.console import console
from internvl_mm.utils.disk import write_whole
from internvl_mm.utils.door import INTERRUPTED, MISTAKE
from internvl_mm.utils.errors import DataError

from .points import Point

Status = Literal['running', 'finished', 'failed']
STATE, OUTPUT = 'point.json', 'output.log'


@dataclass
class PointState:
    """What is known about a point, ``point.json`` in its folder.

    Attributes:
        values: Setting to value, as the user wrote them.
        command: What reproduces the run, word by word.
        number: Its place among the points of the sweep.
        started: When it first was, seconds since 1970.
        status: How it stands; a process that was killed leaves ``'running'``.
        tries: Trainings started for it so far.
        seconds: Of the last try.
        error: Last lines of the output of a failed one.
    """

    values: dict[str, str]
    command: list[str]
    number: int = 0
    started: float = field(default_factory=time.time)
    status: Status = 'running'
    tries: int = 0
    seconds: float = 0.0
    error: str = ''
    folder: Path = field(default=Path(), repr=False, compare=False)

    def save(self) -> None:
        """Write the state, atomically."""
        kept = {name: value for name, value in asdict(self).items() if name != 'folder'}
        write_whole(self.folder / STATE, json.dumps(kept, indent=1))

    @property
    def run(self) -> Path | None:
        """The folder of its newest run that has results."""
        runs = sorted(path.parent for path in self.folder.glob('*/results.json'))
        return runs[-1] if runs else None  # folders are named by their time


def read_state(folder: Path) -> PointState | None:
    """State of the point in a folder; ``None`` if it was never started.

    Raises:
        DataError: The file is damaged.
    """
    try:
        return PointState(**json.loads((folder / STATE).read_text('utf-8')), folder=folder)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f'{folder / STATE} cannot be read ({error}): delete {folder} to run it anew'
        ) from error


def run_point(
    point: Point, root: Path, *, train: Sequence[str], number: int = 0, retries: int = 1
) -> PointState:
    """Train a point unless it has been, and say how it went.

    A failure is tried again, except for mistakes in the settings, which would fail again. Another try continues from
    the last checkpoint of the one before.

    Args:
        point: Leaf and settings.
        root: Folder of the sweep.
        train: The training command before its arguments, such as ``['python', 'tools/train.py']``.
        number: Its place among the points of the sweep.
        retries: How often a failure is tried again.

    Raises:
        KeyboardInterrupt: The training was interrupted.
    """
    # By the hash of the resolved config: the same settings written differently are the same run.
    folder = root / 'points' / point.check()
    state = read_state(folder)
    if state is not None and state.status == 'finished':
        console.print(f'done before: {_label(point)}', highlight=False)
        return state
    folder.mkdir(parents=True, exist_ok=True)
    options = ['--cfg-options', *point.options] if point.settings else []
    command = [*train, point.config, '--work-dir', str(folder), *options]
    before, state = state, PointState(point.values, command, number, folder=folder)
    if before is not None:
        state.tries, state.started = before.tries, before.started  # an interrupted sweep goes on counting
    for _ in range(retries + 1):
        status = _train(state)
        # A mistake in the settings would fail again; anything else may be a machine's.
        if status in (0, MISTAKE):
            break
    word = f'{state.status} in {state.seconds:.0f} s'
    console.print(
        f'{word}: {_label(point)}', style='red' if state.status == 'failed' else None, highlight=False
    )
    return state


def _train(state: PointState) -> int:
    state.status, state.tries, state.error = 'running', state.tries + 1, ''
    state.save()
    started = time.perf_counter()
    # A process of its own: memory is free again afterwards, and what kills it leaves the sweep alive.
    with open(state.folder / OUTPUT, 'ab') as output:
        status = _wait(
            # Of a first try there is nothing to resume, and it begins at the beginning.
            subprocess.Popen([*state.command, '--resume'], stdout=output, stderr=subprocess.STDOUT)
        )
    state.seconds = time.perf_counter() - started
    # -2: ended by SIGINT before our handler was there, as while importing.
    if status in (INTERRUPTED, -2):
        raise KeyboardInterrupt
    state.status = 'finished' if status == 0 else 'failed'
    if status:
        # The last lines of a Python error say what it was.
        lines = (state.folder / OUTPUT).read_text('utf-8', errors='replace').splitlines()
        state.error = f'exit status {status}: ' + ' | '.join(line.strip() for line in lines[-3:])
    state.save()
    return status


def _wait(training: subprocess.Popen) -> int:
    """Exit status of a training; Ctrl-C lets it save its state first, a second one ends it at once."""
    try:
        return training.wait()
    except KeyboardInterrupt:
        # The terminal interrupted the training as well; subprocess.run would kill it after 0.25 s.
        try:
            training.wait()
        finally:
            training.kill()  # does nothing to one that has ended
        raise


def _label(point: Point) -> str:
    return ' '.join(f'{name}={value}' for name, value in point.values.items())
