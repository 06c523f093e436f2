"""One point of a sweep: a training in a process of its own, kept under the hash of its config."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
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
        seconds: Of all tries together, so that a point that was continued does not look cheaper.
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
        # A reader, or the sweep after one that was killed, sees the old state or the new one, never half of it.
        write_whole(self.folder / STATE, json.dumps(kept, indent=1))

    @property
    def run(self) -> Path | None:
        """The folder of its newest run that has results."""
        # Run folders are named by their time, so the last name is the newest.
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
        SystemExit: SIGTERM came; the training has saved and ended.
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
        state.tries, state.started, state.seconds = before.tries, before.started, before.seconds
    for _ in range(retries + 1):
        status = _train(state)
        # A mistake in the settings would be the same mistake again; a lost worker or a full GPU may not be.
        if status in (0, MISTAKE):
            break
    word = f'{state.status} in {state.seconds:.0f} s'
    # The reason at once: the points after this one may take days, and fail for the same.
    reason = f': {state.error}' if state.error else ''
    console.print(
        f'{word}: {_label(point)}{reason}',
        style='red' if state.status == 'failed' else None,
        highlight=False,
        soft_wrap=True,
    )
    return state


def _train(state: PointState) -> int:
    state.status, state.tries, state.error = 'running', state.tries + 1, ''
    state.save()
    started = time.perf_counter()
    processes: list[subprocess.Popen[bytes]] = []
    # Listens before there is a training: a signal in between would leave it alone in the session it has.
    with open(state.folder / OUTPUT, 'ab') as output, _passed_on(processes) as received:
        # A process of its own: memory is free again afterwards, and what kills it leaves the sweep alive. A session of
        # its own: Ctrl-C in the terminal then comes to the sweep alone, which passes it on once. Twice would stop the
        # training before it has saved.
        process = subprocess.Popen(
            [*state.command, '--resume'], stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        processes.append(process)
        for number in received:
            process.send_signal(number)
        status = process.wait()
    state.seconds += time.perf_counter() - started
    stopped = bool(received) or status in (INTERRUPTED, -signal.SIGINT)
    if status == 0:
        state.status = 'finished'
    elif not stopped:  # one that was stopped stays 'running': the next sweep goes on with it
        state.status = 'failed'
        lines = (state.folder / OUTPUT).read_text('utf-8', errors='replace').splitlines()
        state.error = f'exit status {status}: ' + ' | '.join(line.strip() for line in lines[-3:])
    state.save()
    if signal.SIGTERM in received:
        raise SystemExit(128 + signal.SIGTERM)
    if stopped:
        raise KeyboardInterrupt
    return status


@contextmanager
def _passed_on(processes: list[subprocess.Popen[bytes]]) -> Iterator[list[int]]:
    """While a training runs, SIGINT and SIGTERM go on to it and the sweep waits until it has saved; gives what came.

    Without that a killed sweep would leave its training running, and the next sweep would start a second one beside it.
    """
    received: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(number)
        for process in processes:
            process.send_signal(number)

    # Python lets only the main thread listen; what is ignored, as SIGINT behind nohup, stays so.
    listens = threading.current_thread() is threading.main_thread()
    numbers = [
        n for n in (signal.SIGINT, signal.SIGTERM) if listens and signal.getsignal(n) != signal.SIG_IGN
    ]
    before = {number: signal.signal(number, receive) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _label(point: Point) -> str:
    return ' '.join(f'{name}={value}' for name, value in point.values.items())
