"""The end of a sweep: tables on the terminal and on disk, one page."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from internvl_mm.evaluation.report_html_ranges import Range
from internvl_mm.evaluation.report_sweep import Line, Table, write_ranges, write_sweep_page
from internvl_mm.utils.console import console, print_table

from .points import swept
from .table import BestRow, SweepRow, best, collect, table, write_markdown, write_tables


def report(root: Path, *, metric: str | None = None, less: bool = False) -> int:
    """Write tables of all points, of the best settings, and the page of a sweep; print what was best.

    The files are ``table.csv``, ``table.md``, ``best.md``, ``best.svg`` and ``report.html``.

    Args:
        root: Folder of the sweep.
        metric: Which number decides; the first of the results by default.
        less: Smaller is better.

    Returns:
        1 when a point failed, else 0.
    """
    rows = collect(root)
    # '' where no point finished: the tables then say what failed.
    chosen = metric or next((name for row in rows for name in row.results), '')
    ranking = best(rows, chosen, less=less)
    # Points that differ in the seed alone have no swept setting: their config stands for them.
    names = swept([row.values for row in ranking]) or ['config']
    labels = leaf_labels([row.state.values['config'] for row in rows])
    # 'over' beside the interval: one over test samples says nothing of another training.
    content = (
        [*names, 'mean', '95 % interval', 'over', 'seconds'],
        [[*_named(row.values, names, labels), *_number(row)] for row in ranking],
    )
    print_table(f'{chosen or "no results"}, mean over seeds', *content)
    failed = [row for row in rows if row.state.status != 'finished']
    for row in failed:
        console.print(f'{row.state.status}: {row.state.folder}: {row.state.error}', style='red')
    comma, markdown = write_tables(rows, root, chosen)
    # Both to be put into pages elsewhere.
    write_markdown(root / 'best.md', *content)
    ranges = [
        Range(_setting(row.values, names, labels), row.value, row.interval, row.over, row.each)
        for row in ranking
    ]
    if ranges:
        write_ranges(root / 'best.svg', ranges, chosen)
    # The seed among them: curves are of single runs.
    varied = swept([row.state.values for row in rows])
    page = write_sweep_page(
        root / 'report.html',
        title=f'Sweep {root.name}',
        metric=chosen,
        table=_labelled(table(rows, chosen), labels),
        ranking=content,
        ranges=ranges,
        lines=[_line(row, chosen, varied, labels) for row in rows if chosen in row.results],
        runs=[
            (_setting(row.state.values, varied, labels), row.state.run)
            for row in rows
            if row.state.run is not None
        ],
        less=less,
    )
    console.print(f'tables: {comma} {markdown}\nreport: {page.resolve()}', highlight=False, soft_wrap=True)
    return 1 if failed else 0


def leaf_labels(leaves: Iterable[str]) -> dict[str, str]:
    """What tells leaf configs apart, short enough for a legend: their words that the others lack.

    An ablation is named ``<parent>_<what differs>``: next to its parent only what differs remains, and ``'parent'``.

    Args:
        leaves: As the user named them, with folder and ``.py`` or without.

    Returns:
        Leaf to label; to the leaf itself where words do not tell them apart.
    """
    words = {leaf: Path(leaf).name.removesuffix('.py').split('_') for leaf in leaves}
    if len(words) < 2:
        return {leaf: '_'.join(parts) for leaf, parts in words.items()}
    shared = set.intersection(*map(set, words.values()))
    labels = {
        leaf: '_'.join(word for word in parts if word not in shared) or 'parent'
        for leaf, parts in words.items()
    }
    return labels if len(set(labels.values())) == len(labels) else {leaf: leaf for leaf in labels}


def _named(values: dict[str, str], names: Iterable[str], labels: dict[str, str]) -> list[str]:
    """The values of settings, leaves by their labels."""
    return [labels[values[name]] if name == 'config' else values.get(name, '') for name in names]


def _number(row: BestRow) -> list[str]:
    interval = '–' if row.interval is None else f'{row.interval[0]:.4g} – {row.interval[1]:.4g}'
    return [f'{row.value:.4g}', interval, row.over, f'{row.seconds:.0f}']


def _line(row: SweepRow, metric: str, varied: list[str], labels: dict[str, str]) -> Line:
    shown = zip(varied, _named(row.state.values, varied, labels), strict=True)
    return Line(dict(shown), row.metrics[metric])


def _labelled(content: Table, labels: dict[str, str]) -> Table:
    """The table with leaves by their labels; whole names stand in the commands."""
    header, lines = content
    if 'config' not in header:
        return content
    # Only this column: the command beside it has to name the whole leaf.
    place = header.index('config')
    return header, [[*line[:place], labels[line[place]], *line[place + 1 :]] for line in lines]


def _setting(values: dict[str, str], names: list[str], labels: dict[str, str]) -> str:
    """One text for what differs from others, so that no two curves share a name."""
    shown = zip(names, _named(values, names, labels), strict=True)
    return ' '.join(text if name == 'config' else f'{name}={text}' for name, text in shown) or 'as it is'
