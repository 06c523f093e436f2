"""What the points of a sweep gave: one table, and which setting was best over its seeds."""

from __future__ import annotations

import csv
import shlex
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from internvl_mm.evaluation.intervals import mean_interval
from internvl_mm.evaluation.report import ResultRow, interval_text, is_share, read_run

from .points import swept
from .run import PointState, read_state

SEED = 'seed'


@dataclass(frozen=True)
class SweepRow:
    """One point.

    Attributes:
        state: Settings, command, status.
        results: ``'<benchmark>/<metric>'`` to its row of results; empty unless it finished.
    """

    state: PointState
    results: dict[str, ResultRow]

    @property
    def metrics(self) -> dict[str, float]:
        """``'<benchmark>/<metric>'`` to value."""
        return {name: row.value for name, row in self.results.items()}


@dataclass(frozen=True)
class BestRow:
    """A setting with all of its seeds.

    Attributes:
        values: Setting to value, without the seed.
        value: Mean of the metric.
        each: The metric of every seed.
        interval: 95 % interval: of the mean over seeds (Student's t); of a single seed over its test samples, if the
            metric says one.
        seconds: Mean of the wall clock of a run.
    """

    values: dict[str, str]
    value: float
    each: tuple[float, ...]
    interval: tuple[float, float] | None
    seconds: float

    @property
    def seeds(self) -> int:
        """How many runs."""
        return len(self.each)

    @property
    def over(self) -> str:
        """What the interval is over. One over test samples tells nothing of another training, and is no seed's."""
        return f'{self.seeds} seeds' if self.seeds > 1 else 'test samples of 1 seed'


def collect(root: Path) -> list[SweepRow]:
    """Every point below the folder of a sweep, in the order Hydra numbered them."""
    states = [read_state(file.parent) for file in (root / 'points').glob('*/point.json')]
    # Of sweeps that share a folder points of the same number meet: the earlier first.
    states = sorted(filter(None, states), key=lambda state: (state.number, state.started))
    return [SweepRow(state, results_of(state)) for state in states]


def results_of(state: PointState) -> dict[str, ResultRow]:
    """``'<benchmark>/<metric>'`` to result of a finished point."""
    # Evaluations during training leave results, too: those of a point that failed later are not its last word.
    if state.status != 'finished' or state.run is None:
        return {}
    return {f'{row.benchmark}/{row.metric}': row for row in read_run(state.run).results}


def best(rows: Sequence[SweepRow], metric: str, *, less: bool = False) -> list[BestRow]:
    """Settings by the mean of a metric over their seeds, the best first.

    Args:
        rows: Points; those without the metric are left out.
        metric: ``'<benchmark>/<metric>'``.
        less: Smaller values are better.
    """
    groups: dict[tuple[tuple[str, str], ...], list[SweepRow]] = defaultdict(list)
    for row in rows:
        if metric in row.results:
            # Runs that differ in the seed alone are one setting, measured several times.
            groups[tuple(item for item in row.state.values.items() if item[0] != SEED)].append(row)
    found = [
        BestRow(
            values=dict(key),
            value=mean(run.metrics[metric] for run in runs),
            each=tuple(run.metrics[metric] for run in runs),
            interval=_interval([run.results[metric] for run in runs]),
            seconds=mean(run.state.seconds for run in runs),
        )
        for key, runs in groups.items()
    ]
    return sorted(found, key=lambda row: row.value, reverse=not less)


def _interval(results: Sequence[ResultRow]) -> tuple[float, float] | None:
    if len(results) > 1:
        low, high = mean_interval([result.value for result in results])
        # Student's t knows no bounds, and of two seeds promises little: a share in percent has them.
        return (max(0.0, low), min(100.0, high)) if is_share(results[0].metric) else (low, high)
    lower, upper = results[0].lower, results[0].upper
    return None if lower is None or upper is None else (lower, upper)


def table(rows: Sequence[SweepRow], judged: str = '') -> tuple[list[str], list[list[str]]]:
    """Header and lines of the table: swept settings, metrics, status, seconds, command.

    Args:
        rows: Points.
        judged: The metric beside which stands its 95 % interval over test samples.
    """
    names = swept([row.state.values for row in rows]) or ['config']
    # In the order of the first point that has them; a set would change it from run to run.
    metrics = list(dict.fromkeys(name for row in rows for name in row.results))
    # The number that decides comes first, whatever else was measured.
    metrics = [name for name in (judged,) if name in metrics] + [name for name in metrics if name != judged]
    lines = [
        [
            *(row.state.values.get(name, '') for name in names),
            *(cell for name in metrics for cell in _cells(row.results.get(name), name == judged)),
            row.state.status,
            f'{row.state.seconds:.0f}',
            shlex.join(row.state.command),
        ]
        for row in rows
    ]
    heads = [head for name in metrics for head in ((name, f'{name} 95 %') if name == judged else (name,))]
    return [*names, *heads, 'status', 'seconds', 'command'], lines


def _cells(result: ResultRow | None, with_interval: bool) -> list[str]:
    value = '' if result is None else f'{result.value:.6g}'
    return [value, '' if result is None else interval_text(result)] if with_interval else [value]


def write_tables(rows: Sequence[SweepRow], root: Path, judged: str = '') -> tuple[Path, Path]:
    """Write ``table.csv`` and ``table.md`` into the folder of the sweep; return their paths."""
    header, lines = table(rows, judged)
    # CSV for spreadsheets and pandas, Markdown for a pull request.
    comma, markdown = root / 'table.csv', root / 'table.md'
    # newline='': the csv module ends lines by itself.
    with open(comma, 'w', encoding='utf-8', newline='') as file:
        csv.writer(file).writerows([header, *lines])
    write_markdown(markdown, header, lines)
    return comma, markdown


def write_markdown(path: Path, header: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Write a table of GitHub's Markdown, in which a bar within a cell would end it."""
    cells = [header, ['---'] * len(header), *([cell.replace('|', '\\|') for cell in line] for line in lines)]
    path.write_text(''.join(f'| {" | ".join(line)} |\n' for line in cells), 'utf-8')
