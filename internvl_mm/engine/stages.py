"""Several training runs that build on each other, as many at a time as the machine has cores."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.live import Live
from rich.table import Table

from internvl_mm.evaluation.report import interval_text, read_run
from internvl_mm.utils.console import console, print_table
from internvl_mm.utils.errors import ConfigError, UserError

LOG = 'console.log'  # what a stage prints, beside its run folders
POLL = 0.5  # seconds between two looks at what is running
LAST_WORDS = 12  # lines of a failed stage's log that are shown
MOST_LANES = 8  # a run takes about 1.5 GB of memory
_ETA = re.compile(r'eta: ([\d:]+)')  # in the lines of mmengine's LoggerHook


class StageError(UserError):
    """A stage ended with an error; the message carries its last words."""


@dataclass(frozen=True)
class Stage:
    """One run of several.

    Args:
        title: What it shows, for people.
        config: Name of its config and of its folder, unique among the stages.
        metrics: What it is judged by, ``benchmark/metric`` as in its results.
        start: Setting of the config that takes the weights of another stage, and the config of that stage.
    """

    title: str
    config: str
    metrics: tuple[str, ...]
    start: tuple[str, str] | None = None


@dataclass
class _Run:
    """A stage on its way; ``folder`` is set when it has ended well."""

    stage: Stage
    work_dir: Path
    process: subprocess.Popen | None = None
    began: float = 0.0
    took: float = 0.0
    folder: Path | None = None

    @property
    def log(self) -> Path:
        return self.work_dir / LOG

    def state(self) -> str:
        """Waiting, done, or the remaining time as the run itself estimates it."""
        if self.process is None:
            return 'waiting'
        if self.folder is not None:
            return 'done'
        with self.log.open('rb') as file:
            file.seek(max(0, self.log.stat().st_size - 4096))  # the last few lines are enough
            found = _ETA.findall(file.read().decode(errors='replace'))
        return f'{found[-1]} left' if found else 'running'


@dataclass
class Stages:
    """Runs stages in order, each when the one it starts from has ended and a lane is free.

    Args:
        stages: In order of preference: the first that can start does.
        work_dir: Every stage gets a folder in it, named as its config; what it prints goes to ``console.log`` there.
        train: The command that trains a config, e.g. ``tools/train.py``.
        prefix: Before the name of a config, the folder of it among the shipped ones.
        lanes: Runs at a time; by default as many as there are cores for this process, 8 at most.

    Raises:
        ConfigError: Two stages share a config, or one starts from a stage that does not come before it.
    """

    stages: Sequence[Stage]
    work_dir: Path
    train: Path
    prefix: str = 'quickstart/'
    lanes: int = field(default_factory=lambda: min(MOST_LANES, _cores()))

    def __post_init__(self) -> None:
        known: set[str] = set()
        for stage in self.stages:
            if stage.config in known:
                raise ConfigError(f'two stages run {stage.config}: give each its own config')
            if stage.start is not None and stage.start[1] not in known:
                raise ConfigError(f'{stage.config} starts from {stage.start[1]}, which is no stage before it')
            known.add(stage.config)

    def run(self) -> list[tuple[Stage, Path, float]]:
        """Run all; returns each stage with its run folder and the seconds it took.

        Raises:
            StageError: A stage failed; the others are ended, what they saved stays.
            SystemExit: With status 143 on SIGTERM, after the same.
        """
        runs = {stage.config: _Run(stage, self.work_dir / stage.config) for stage in self.stages}
        # Left alone, SIGTERM ends this process without a word to the runs, which would go on for an hour.
        before = signal.signal(signal.SIGTERM, _leave)
        try:
            with Live(
                console=console, get_renderable=lambda: _table(runs.values()), refresh_per_second=2
            ) as live:
                # A file or a pipe gets lines as stages end, and the table once.
                live.auto_refresh = console.is_interactive
                while any(run.folder is None for run in runs.values()):
                    self._look(runs)
                    self._start(runs)
                    time.sleep(POLL)
        finally:
            unfinished = [run.process for run in runs.values() if run.process and run.process.poll() is None]
            for process in unfinished:
                process.terminate()  # it saves a checkpoint and ends
            for process in unfinished:
                process.wait()
            signal.signal(signal.SIGTERM, before)
        return [(run.stage, run.folder, run.took) for run in runs.values()]

    def command(self, stage: Stage, source: Path | None) -> list[str]:
        """What a user would type for a stage that starts from the run folder ``source``."""
        argv = [str(self.train), f'{self.prefix}{stage.config}.py']
        argv += ['--work-dir', str(self.work_dir / stage.config)]
        return argv if source is None else [*argv, '--cfg-options', f'{stage.start[0]}={source}']

    def _look(self, runs: dict[str, _Run]) -> None:
        for run in runs.values():
            if run.process is None or run.folder is not None or run.process.poll() is None:
                continue
            run.took = time.monotonic() - run.began
            if run.process.returncode:
                raise StageError(_last_words(run))
            # Folders are named by time; an earlier call may have left runs in the same place.
            run.folder = max(path.parent for path in run.work_dir.glob('*/results.json'))
            console.print(f'{run.stage.title}: {run.took:.0f} s', highlight=False)

    def _start(self, runs: dict[str, _Run]) -> None:
        running = sum(run.process is not None and run.folder is None for run in runs.values())
        for run in runs.values():
            source = runs[run.stage.start[1]].folder if run.stage.start else None
            # A run that waits for its source keeps nobody from starting behind it.
            if running >= self.lanes or run.process is not None or (run.stage.start and source is None):
                continue
            run.work_dir.mkdir(parents=True, exist_ok=True)
            argv = self.command(run.stage, source)
            console.print(f'python {" ".join(argv)}', highlight=False, soft_wrap=True, style='dim')
            with run.log.open('wb') as log:
                # No terminal: of several runs at once nobody could say whose question it was. A session of its own:
                # Ctrl-C there comes to this process alone, which asks the runs once. Twice would stop them unsaved.
                run.process = subprocess.Popen(
                    [sys.executable, *argv],
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
            run.began, running = time.monotonic(), running + 1


def print_results(title: str, runs: Sequence[tuple[Stage, Path, float]]) -> None:
    """Print a table of what the stages are judged by.

    Args:
        title: Over the table.
        runs: What :meth:`Stages.run` returns.
    """
    rows = []
    for stage, folder, took in runs:
        found = {f'{row.benchmark}/{row.metric}': row for row in read_run(folder).results}
        for number, metric in enumerate(stage.metrics):
            row = found[metric]
            first = (stage.title, f'{took:.0f}') if number == 0 else ('', '')
            rows.append((*first, metric, row.value, interval_text(row), row.n))
    print_table(title, ('stage', 'seconds', 'metric', 'value', '95 %', 'n'), rows)


def _leave(number: int, frame: object) -> None:
    sys.exit(128 + number)


def _cores() -> int:
    """Cores this process may use; a container or a scheduler may give fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def _table(runs: Iterable[_Run]) -> Table:
    table = Table('stage', 'seconds', 'state')
    for run in runs:
        seconds = run.took or (time.monotonic() - run.began if run.process is not None else 0.0)
        table.add_row(run.stage.title, f'{seconds:.0f}' if seconds else '', run.state())
    return table


def _last_words(run: _Run) -> str:
    lines = run.log.read_text(errors='replace').splitlines()[-LAST_WORDS:]
    return (
        f'the stage "{run.stage.title}" ended with status {run.process.returncode}. The end of {run.log}:\n'
        + '\n'.join(lines)
    )
