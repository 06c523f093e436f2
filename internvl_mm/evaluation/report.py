"""Reads what a run left in its folder and turns result rows into a Markdown table."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from internvl_mm.evaluation.intervals import wilson_interval
from internvl_mm.utils.errors import DataError

SCALARS = 'vis_data/scalars.json'  # JSON lines, written by mmengine's LocalVisBackend
RESULTS = 'results.json'
ENVIRONMENT = 'environment.json'
RUN = 'run.json'
CONFIG = 'config.py'  # resolved
PICTURES = 'pictures/pictures.json'
BAD_SAMPLES = 'bad_samples*.jsonl'  # one file per process
NON_FINITE = 'non_finite.jsonl'

# Metrics that are a share of n samples in percent, so that a binomial interval applies to them.
_SHARE = re.compile(r'(top\d+|accuracy)$')

Curve = list[tuple[float, float]]


@dataclass(frozen=True)
class ResultRow:
    """One number of a run.

    Attributes:
        benchmark: Name of the benchmark in the config.
        metric: Name of the metric.
        value: The number; shares are in percent.
        n: Samples it was computed on.
        config_hash: Hash of the resolved config.
        lower: Lower end of the 95 % confidence interval, in the unit of ``value``; ``None`` if there is none.
        upper: Upper end of the same interval.
    """

    benchmark: str
    metric: str
    value: float
    n: int
    config_hash: str = ''
    lower: float | None = None
    upper: float | None = None

    def with_interval(self) -> ResultRow:
        """Return the row with a Wilson interval if its metric is a share of n samples and it has no interval yet."""
        if self.lower is not None or self.n < 1 or not is_share(self.metric):
            return self
        # Back from percent to a whole number of right samples.
        lower, upper = wilson_interval(round(self.value / 100 * self.n), self.n)
        values = vars(self) | dict(lower=100 * lower, upper=100 * upper)
        return ResultRow(**values)


def is_share(name: str) -> bool:
    """Whether a metric, named with or without its benchmark, is a share of samples in percent."""
    # A mean of two shares is none: no number of samples was right.
    return _SHARE.search(name) is not None and not name.rpartition('/')[2].startswith('mean_')


@dataclass(frozen=True)
class Picture:
    """A test picture with its verdict: a PNG beside ``pictures.json``, what is true and what was predicted.

    Generated answers have a question and no score; drawings with labels beside the prediction have no verdict.
    """

    file: str
    dataset: str
    index: int
    label: str
    prediction: str
    score: float | None
    correct: bool | None
    question: str = ''


@dataclass(frozen=True)
class RunFacts:
    """What the runner knows about itself: ``run.json``.

    Attributes:
        name: Name of the experiment, by default its config.
        started: Date and time.
        seconds: Duration so far.
        strategy: Strategy and number of processes.
        precision: Compute dtype.
    """

    name: str
    started: str = ''
    seconds: float | None = None
    strategy: str = ''
    precision: str = ''


@dataclass
class RunRecord:
    """Everything the report needs to know about one run.

    Attributes:
        folder: The run folder.
        facts: What the runner knew; without ``run.json`` the name is that of the folder.
        results: Final numbers.
        curves: Scalar name → points ``(iteration, value)``.
        environment: What the run was done with.
        config: Text of the resolved config.
        pictures: Sample predictions.
        bad_samples: Lines of the ledger of unreadable samples.
        non_finite: Steps skipped because a loss or gradient was not finite, the last one perhaps the end of the run.
    """

    folder: Path
    facts: RunFacts
    results: list[ResultRow] = field(default_factory=list)
    curves: dict[str, Curve] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    config: str = ''
    pictures: list[Picture] = field(default_factory=list)
    bad_samples: list[dict[str, Any]] = field(default_factory=list)
    non_finite: list[dict[str, Any]] = field(default_factory=list)


def read_run(folder: str | Path) -> RunRecord:
    """Read a run folder; parts that the run did not leave are empty.

    Args:
        folder: The folder a run wrote to, ``<work_dir>/<time>``.

    Raises:
        DataError: The folder does not exist, or one of its files is not what the run wrote.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f'{folder} is not a run folder: give a <work_dir>/<time> folder of tools/train.py.')
    config = folder / CONFIG
    return RunRecord(
        folder=folder,
        facts=RunFacts(**_read_json(folder / RUN, dict(name=f'{folder.parent.name}/{folder.name}'))),
        results=[_row(folder / RESULTS, row).with_interval() for row in _read_json(folder / RESULTS, [])],
        curves=_read_curves(folder / SCALARS),
        environment=_read_json(folder / ENVIRONMENT, {}),
        config=config.read_text(encoding='utf-8') if config.is_file() else '',
        pictures=[Picture(**entry) for entry in _read_json(folder / PICTURES, [])],
        bad_samples=[line for file in sorted(folder.glob(BAD_SAMPLES)) for line in _read_json_lines(file)],
        non_finite=_read_json_lines(folder / NON_FINITE),
    )


def results_table(rows: Iterable[ResultRow]) -> str:
    """Return result rows as a Markdown table with n and the 95 % interval where there is one."""
    lines = ['| benchmark | metric | value | 95 % interval | n |', '|---|---|---:|---:|---:|']
    for row in rows:
        value = f'{row.value:.2f}' if is_share(row.metric) else f'{row.value:.4g}'
        cells = (row.benchmark, row.metric, value, interval_text(row), f'{row.n:,}')
        # A bar within a name would end its cell.
        lines.append('| ' + ' | '.join(cell.replace('|', '\\|') for cell in cells) + ' |')
    return '\n'.join(lines) + '\n'


def interval_text(row: ResultRow) -> str:
    """Return ``lower – upper``, or a dash for a number without an interval."""
    return '–' if row.lower is None or row.upper is None else f'{row.lower:.2f} – {row.upper:.2f}'


def _row(file: Path, entry: dict[str, Any]) -> ResultRow:
    # rows say more, such as iter
    known = {name: entry[name] for name in ResultRow.__dataclass_fields__ if name in entry}
    missing = {'benchmark', 'metric', 'value', 'n'} - known.keys()
    if missing:
        raise DataError(f'{file}: a row lacks {sorted(missing)}; it has {sorted(entry)}.')
    return ResultRow(**known)


def _read_json(file: Path, default: Any) -> Any:
    if not file.is_file():
        return default
    try:
        return json.loads(file.read_text(encoding='utf-8'))
    except json.JSONDecodeError as error:
        raise DataError(
            f'{file} is not JSON ({error}): remove it, or write it again by running the test.'
        ) from error


def _read_json_lines(file: Path) -> list[dict[str, Any]]:
    """Read one JSON value per line; a last line cut off by a killed run is left out."""
    if not file.is_file():
        return []
    text = file.read_text(encoding='utf-8')
    # Not splitlines: texts in a ledger may hold other separators, which JSON leaves as they are.
    complete = text[: text.rfind('\n') + 1].split('\n')
    try:
        return [json.loads(line) for line in complete if line.strip()]
    except json.JSONDecodeError as error:
        raise DataError(f'{file} holds a line that is not JSON ({error}): remove that line.') from error


def _read_curves(file: Path) -> dict[str, Curve]:
    """Collect scalars by name; a resumed run repeats iterations, and the last value of each counts."""
    curves: dict[str, dict[float, float]] = defaultdict(dict)
    for line in _read_json_lines(file):
        step = line.get('step', 0)
        for name, value in line.items():
            # mmengine writes these three into the lines beside the scalars.
            if isinstance(value, (int, float)) and name not in ('step', 'iter', 'epoch'):
                curves[name][step] = value
    return {name: sorted(points.items()) for name, points in curves.items()}
