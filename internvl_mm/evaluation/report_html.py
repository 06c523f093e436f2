"""Self-contained HTML reports: one page per run, one page over several runs. No network, no scripts."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from internvl_mm.evaluation.figures import Bars, MetricFigure, read_figures
from internvl_mm.evaluation.report import Curve, ResultRow, RunRecord, interval_text, is_share, read_run
from internvl_mm.evaluation.report_html_chart import Figure, draw, draw_bars, short_number
from internvl_mm.evaluation.report_html_similarity import data_uri, similarity_views
from internvl_mm.utils.disk import write_whole
from internvl_mm.utils.errors import DataError

REPORT = 'report.html'
SUMMARY = 'summary.html'

# Scalars that belong into one figure: last part of the name → title, unit. Other names get a figure each.
FIGURES = {
    'loss': ('Loss', 'loss'),
    'lr': ('Learning rate', 'learning rate'),
    'base_lr': ('Learning rate', 'learning rate'),
    'images_per_second': ('Throughput', 'images/s'),
    'mfu': ('Model FLOP utilisation', '% of peak'),
    'grad_norm': ('Gradient norm', 'L2 norm'),
    'time': ('Time per iteration', 's'),
    'data_time': ('Time per iteration', 's'),
    'memory': ('Device memory', 'MiB'),
}
# Scalars that are no curves: timing of evaluations, counts, numbers after the last iteration.
_HIDDEN = re.compile(r'test/|val/(data_)?time$|.*/(n|excluded)$')
# The curves a page over several runs compares.
COMPARED = ('train/loss', 'train/lr', 'train/images_per_second')


def write_report(folder: str | Path) -> Path:
    """Write ``report.html`` into a run folder and return its path.

    Args:
        folder: The run folder, ``<work_dir>/<time>``.

    Raises:
        DataError: The folder is no run folder.
    """
    record = read_run(folder)
    page = (
        templates()
        .get_template('run.html')
        .render(
            run=record,
            figures=[figure for figure in figures(record.curves) if drawable(figure)],
            facts=_facts(record),
            tiles=_tiles(record),
            details=[
                (benchmark, [_drawing(figure) for figure in drawn])
                for benchmark, drawn in read_figures(record.folder).items()
            ],
            similarities=similarity_views(record.folder),
            pictures=[
                (picture, data_uri(record.folder / 'pictures' / picture.file)) for picture in record.pictures
            ],
        )
    )
    return write_page(record.folder / REPORT, page)


def write_summary(folders: Iterable[str | Path], path: str | Path) -> Path:
    """Write one page over several runs: every result in one table, and the curves on top of each other.

    Args:
        folders: Run folders, in the order to show; each that has a ``report.html`` is linked.
        path: The HTML file to write.

    Raises:
        DataError: No folder is given, or one is no run folder.
    """
    path = Path(path)
    records = [read_run(folder) for folder in folders]
    if not records:
        raise DataError('write_summary got no run folder: give at least one <work_dir>/<time> folder.')
    loss, *rest = (_compare(records, name) for name in COMPARED)
    page = (
        templates()
        .get_template('summary.html')
        .render(
            facts=_facts(records[0]),
            runs=[(record, _link(record.folder / REPORT, path.parent)) for record in records],
            figures=[figure for figure in [loss, *_compare_metrics(records), *rest] if drawable(figure)],
        )
    )
    return write_page(path, page)


def figures(curves: dict[str, Curve]) -> list[Figure]:
    """Group curves into figures: losses, learning rates, one per metric, throughput, then the rest."""
    groups: dict[tuple[str, str], dict[str, Curve]] = {}
    for name, curve in curves.items():
        if not _HIDDEN.match(name):
            # What has one title and unit shares a figure: losses of training and validation, say.
            groups.setdefault(figure_of(name), {})[name] = curve
    # Each once: several scalars share a title.
    order = list(dict.fromkeys(FIGURES.values()))
    metrics = [key for key in groups if key not in order]
    ranked = [*order[:1], *metrics, *order[1:]]
    return [Figure(*key, groups[key]) for key in ranked if key in groups]


def figure_of(name: str) -> tuple[str, str]:
    """Title and unit of the figure a scalar belongs into."""
    leaf = name.split('/')[-1]
    if is_share(leaf):
        return leaf, '%'
    return FIGURES['loss'] if 'loss' in leaf else FIGURES.get(leaf, (leaf, leaf))


def _drawing(figure: MetricFigure) -> tuple[str, list[str], Markup]:
    """Title, legend and picture of what a metric left beside its numbers."""
    if isinstance(figure, Bars):
        return f'{figure.title}, {figure.unit}', [], draw_bars(figure)
    lines = Figure(figure.title, figure.unit, figure.series, figure.x_label)
    return figure.title, list(figure.series), draw(lines)


def drawable(figure: Figure) -> bool:
    """A single point is a number, and stands in the table."""
    return any(len(curve) > 1 for curve in figure.series.values())


def _compare(records: Sequence[RunRecord], name: str) -> Figure:
    series = {record.facts.name: record.curves[name] for record in records if name in record.curves}
    return Figure(*figure_of(name), series)


def _compare_metrics(records: Sequence[RunRecord]) -> list[Figure]:
    names = dict.fromkeys(name for record in records for name in record.curves if name.startswith('val/'))
    chosen = [name for name in names if is_share(name)]
    return [Figure(name.removeprefix('val/'), '%', _compare(records, name).series) for name in chosen]


def _facts(record: RunRecord) -> list[str]:
    """When, which code, on what: the line below the title; unknown ones are left out."""
    environment = record.environment
    # '<commit>+changes' where the checkout had been edited.
    commit, *changes = str(environment.get('git') or '').partition('+')
    gpus = environment.get('gpus') or []
    torch_version = environment.get('packages', {}).get('torch')
    facts = [
        record.facts.started,
        f'commit {commit[:10]}{"".join(changes)}' if commit else '',
        f'{len(gpus)} x {gpus[0]}' if gpus else environment.get('cpu', ''),
        record.facts.precision,
        record.facts.strategy,
        f'torch {torch_version}' if torch_version else '',
    ]
    return [fact for fact in facts if fact]


def _tiles(record: RunRecord) -> list[tuple[str, str, str]]:
    """The few numbers to see first: value, what it is, detail."""
    tiles = []
    for row in record.results[:2]:
        detail = f'95 % interval {interval_text(row)}' if row.lower is not None else f'n = {row.n:,}'
        tiles.append((value_text(row), f'{row.benchmark} {row.metric}', detail))
    speed = record.curves.get('train/images_per_second')
    if speed:
        tiles.append((short_number(float(f'{speed[-1][1]:.3g}')), 'images/s', 'training, last measured'))
    if record.facts.seconds is not None:
        tiles.append((duration_text(record.facts.seconds), 'duration', f'{_iterations(record):,} iterations'))
    return tiles


def _iterations(record: RunRecord) -> int:
    # Curves are sorted by iteration: the last point is the latest.
    return int(max((curve[-1][0] for curve in record.curves.values() if curve), default=0))


def value_text(row: ResultRow) -> str:
    """Return a result as people read it: shares in percent with two digits, other numbers with four."""
    return f'{row.value:.2f} %' if is_share(row.metric) else f'{row.value:.4g}'


def duration_text(seconds: float) -> str:
    """Return ``42 s``, ``3 min 20 s`` or ``5 h 07 min``."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f'{minutes} min {rest:02d} s' if minutes else f'{rest} s'
    return f'{minutes // 60} h {minutes % 60:02d} min'


def templates() -> Environment:
    """Templates escape everything: names and paths of data come from outside."""
    environment = Environment(
        loader=PackageLoader('internvl_mm.evaluation'),
        autoescape=True,
        undefined=StrictUndefined,  # a misspelt name fails, instead of leaving a gap
        trim_blocks=True,  # this and the next: statements leave no blank lines in the page
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., Any]] = dict(
        draw=draw, interval=interval_text, value=value_text, duration=duration_text
    )
    environment.filters.update(filters)
    return environment


def _link(report: Path, start: Path) -> str:
    return Path(os.path.relpath(report, start)).as_posix() if report.is_file() else ''


def write_page(path: Path, page: str) -> Path:
    """Write a page, making its folder; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, page)  # a browser may look at it meanwhile, and the process may be killed
    return path
