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
from internvl_mm.evaluation.report import read_run

from .points import swept
from .run import PointState, read_state

SEED = 'seed'


@dataclass(frozen=True)
class SweepRow:
    """One point.

    Attributes:
        state: Settings, command, status.
        metrics: ``'<benchmark>/<metric>'`` to value; empty unless it finished.
    """

    state: PointState
    metrics: dict[str, float]


@dataclass(frozen=True)
class BestRow:
    """A setting with all of its seeds.

    Attributes:
        values: Setting to value, without the seed.
        value: Mean of the metric.
        interval: 95 % interval of the mean (Student's t); ``None`` for a single seed.
        seeds: How many runs.
    """

    values: dict[str, str]
    value: float
    interval: tuple[float, float] | None
    seeds: int


def collect(root: Path) -> list[SweepRow]:
    """Every point below the folder of a sweep, in the order Hydra numbered them."""
    states = [read_state(file.parent) for file in (root / 'points').glob('*/point.json')]
    # Of sweeps that share a folder points of the same number meet: the earlier first.
    states = sorted(filter(None, states), key=lambda state: (state.number, state.started))
    return [SweepRow(state, metrics_of(state)) for state in states]


def metrics_of(state: PointState) -> dict[str, float]:
    """``'<benchmark>/<metric>'`` to value of a finished point."""
    if state.status != 'finished' or state.run is None:
        return {}
    return {f'{row.benchmark}/{row.metric}': row.value for row in read_run(state.run).results}


def best(rows: Sequence[SweepRow], metric: str, *, less: bool = False) -> list[BestRow]:
    """Settings by the mean of a metric over their seeds, the best first.

    Args:
        rows: Points; those without the metric are left out.
        metric: ``'<benchmark>/<metric>'``.
        less: Smaller values are better.
    """
    groups: dict[tuple[tuple[str, str], ...], list[float]] = defaultdict(list)
    for row in rows:
        if metric in row.metrics:
            # Points that differ in the seed alone are repetitions of one setting.
            key = tuple(item for item in row.state.values.items() if item[0] != SEED)
            groups[key].append(row.metrics[metric])
    # One run says nothing about the spread between runs: no interval.
    found = [
        BestRow(dict(key), mean(values), mean_interval(values) if len(values) > 1 else None, len(values))
        for key, values in groups.items()
    ]
    return sorted(found, key=lambda row: row.value, reverse=not less)


def table(rows: Sequence[SweepRow]) -> tuple[list[str], list[list[str]]]:
    """Header and lines of the table: swept settings, every metric, status, seconds, command."""
    names = swept([row.state.values for row in rows]) or ['config']
    metrics = list(dict.fromkeys(name for row in rows for name in row.metrics))
    lines = [
        [
            *(row.state.values.get(name, '') for name in names),
            *(f'{row.metrics[name]:.6g}' if name in row.metrics else '' for name in metrics),
            row.state.status,
            f'{row.state.seconds:.0f}',
            shlex.join(row.state.command),
        ]
        for row in rows
    ]
    return [*names, *metrics, 'status', 'seconds', 'command'], lines


def write_tables(rows: Sequence[SweepRow], root: Path) -> tuple[Path, Path]:
    """Write ``table.csv`` and ``table.md`` into the folder of the sweep; return their paths."""
    header, lines = table(rows)
    comma, markdown = root / 'table.csv', root / 'table.md'
    # newline='': the csv module ends lines by itself.
    with open(comma, 'w', encoding='utf-8', newline='') as file:
        csv.writer(file).writerows([header, *lines])
    # A bar would end the cell, also within code.
    cells = [header, ['---'] * len(header), *([cell.replace('|', '\\|') for cell in line] for line in lines)]
    markdown.write_text(''.join(f'| {" | ".join(line)} |\n' for line in cells), 'utf-8')
    return comma, markdown
