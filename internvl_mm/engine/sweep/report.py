"""The end of a sweep: tables on the terminal and on disk, one page."""

from __future__ import annotations

from pathlib import Path

from internvl_mm.evaluation.report_sweep import Line, write_sweep_page
from internvl_mm.utils.console import console, print_table

from .points import swept
from .table import BestRow, SweepRow, best, collect, table, write_tables


def report(root: Path, *, metric: str | None = None, less: bool = False) -> int:
    """Write ``table.csv``, ``table.md`` and ``report.html`` of a sweep and print what was best.

    Args:
        root: Folder of the sweep.
        metric: Which number decides; the first of the results by default.
        less: Smaller is better.

    Returns:
        1 when a point failed, else 0.
    """
    rows = collect(root)
    chosen = metric or next((name for row in rows for name in row.metrics), '')
    ranking = best(rows, chosen, less=less)
    names = swept([row.values for row in ranking]) or ['config']
    print_table(
        f'{chosen or "no results"}, mean over seeds',
        [*names, 'mean', '95 % of the mean', 'seeds'],
        [
            [*(row.values.get(name, '') for name in names), row.value, _interval(row), row.seeds]
            for row in ranking
        ],
    )
    failed = [row for row in rows if row.state.status != 'finished']
    for row in failed:
        console.print(f'{row.state.status}: {row.state.folder}: {row.state.error}', style='red', markup=False)
    comma, markdown = write_tables(rows, root)
    page = write_sweep_page(
        root / 'report.html',
        title=f'Sweep {root.name}',
        metric=chosen,
        table=table(rows),
        ranking=([*names, 'mean', '95 % of the mean', 'seeds'], [_cells(row, names) for row in ranking]),
        lines=[_line(row, chosen) for row in rows if chosen in row.metrics],
        runs=[(_title(row), row.state.run) for row in rows if row.state.run is not None],
        less=less,
    )
    console.print(f'tables: {comma} {markdown}\nreport: {page.resolve()}', highlight=False, soft_wrap=True)
    return 1 if failed else 0


def _interval(row: BestRow) -> str:
    return '–' if row.interval is None else f'{row.interval[0]:.4g} to {row.interval[1]:.4g}'


def _cells(row: BestRow, names: list[str]) -> list[str]:
    return [*(row.values.get(name, '') for name in names), f'{row.value:.4g}', _interval(row), str(row.seeds)]


def _line(row: SweepRow, metric: str) -> Line:
    return Line(row.state.values, row.metrics[metric])


def _title(row: SweepRow) -> str:
    return (
        ' '.join(f'{name}={value}' for name, value in row.state.values.items() if name != 'config')
        or 'as it is'
    )
