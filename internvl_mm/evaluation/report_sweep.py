"""The page of a sweep: ranking, parallel coordinates, curves of all points, every command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup, escape

from internvl_mm.evaluation.report import read_run
from internvl_mm.evaluation.report_html import COMPARED, drawable, figure_of, templates, write_page
from internvl_mm.evaluation.report_html_chart import Figure, short_number
from internvl_mm.evaluation.report_html_ranges import Range, draw_ranges, size_of

Table = tuple[Sequence[str], Sequence[Sequence[str]]]  # header, lines

# SVG user units.
WIDTH, HEIGHT, MARGIN, TOP, BOTTOM = 960, 300, 70, 34, 18


@dataclass(frozen=True)
class Line:
    """A point in the parallel coordinates: its settings and the metric they led to."""

    values: dict[str, str]
    metric: float


def write_sweep_page(
    path: Path,
    *,
    title: str,
    metric: str,
    table: Table,
    ranking: Table,
    ranges: Sequence[Range],
    lines: Sequence[Line],
    runs: Sequence[tuple[str, Path]],
    less: bool = False,
) -> Path:
    """Write the page of a sweep.

    Args:
        path: The HTML file.
        title: Heading.
        metric: The number that decides.
        table: Every point with its command.
        ranking: Settings by their mean over seeds, the best first.
        ranges: The same as a drawing.
        lines: Points that have the metric.
        runs: Legend text and run folder of every run, for the curves.
        less: Smaller is better.
    """
    records = [(name, read_run(folder)) for name, folder in runs]
    figures = []
    # What decides comes beside the loss, for sweeps that evaluate on the way.
    loss, *others = COMPARED
    for curve in (loss, f'val/{metric}', *others):
        series = {name: record.curves[curve] for name, record in records if curve in record.curves}
        figures.append(Figure(*figure_of(curve), series))
    page = (
        templates()
        .get_template('sweep.html')
        .render(
            title=title,
            metric=metric,
            table=table,
            ranking=ranking,
            ranges=dict(drawing=draw_ranges(ranges, metric), size=size_of(ranges)) if ranges else None,
            parallel=parallel_coordinates(lines, metric, less=less),
            figures=[figure for figure in figures if drawable(figure)],
        )
    )
    return write_page(path, page)


def write_ranges(path: Path, ranges: Sequence[Range], metric: str) -> Path:
    """Write the settings with their intervals as an SVG file that reads in light and dark, for a page elsewhere."""
    width, height = size_of(ranges)
    facts = dict(width=width, height=height, label=f'{metric} of the settings of a sweep')
    return write_page(
        path, templates().get_template('figure.svg').render(drawing=draw_ranges(ranges, metric), **facts)
    )


def parallel_coordinates(lines: Sequence[Line], metric: str, *, less: bool = False) -> Markup:
    """One vertical axis per setting that varies and one for the metric; a polyline per point, the best one thick."""
    varied = dict.fromkeys(name for line in lines for name in line.values)
    names = [name for name in varied if len({line.values.get(name) for line in lines}) > 1]
    if len(lines) < 2 or not names:
        return Markup('')
    axes = {name: _settings_axis([line.values.get(name, '') for line in lines]) for name in names}
    step = (WIDTH - 2 * MARGIN) / len(names)
    values = [line.metric for line in lines]
    low, high = min(values), max(values)
    ends = {short_number(float(f'{value:.4g}')): _height(value, low, high) for value in (low, high)}
    drawn = [
        _axis(MARGIN + order * step, name, places)
        for order, (name, places) in enumerate([*axes.items(), (metric, ends)])
    ]
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="settings and {escape(metric)}">']
    for rank, line in enumerate(sorted(lines, key=lambda line: line.metric, reverse=less)):
        heights = [axes[name][line.values.get(name, '')] for name in names] + [
            _height(line.metric, low, high)
        ]
        points = ' '.join(f'{MARGIN + order * step:.1f},{y:.1f}' for order, y in enumerate(heights))
        text = ' '.join(f'{name}={line.values.get(name, "")}' for name in names)
        # Drawn from the worst to the best, which lies on top.
        strength = (rank + 1) / len(lines)
        width = 3 if rank == len(lines) - 1 else 1.5
        parts.append(
            f'<g class="series" style="--colour:var(--series-0)" opacity="{0.15 + 0.85 * strength:.2f}">'
            f'<polyline points="{points}" style="stroke-width:{width}">'
            f'<title>{escape(text)}: {line.metric:.5g}</title></polyline></g>'
        )
    # Axes and their labels on top: lines that meet at a value would cross it out.
    return Markup(''.join([*parts, *drawn, '</svg>']))


def _settings_axis(values: Sequence[str]) -> dict[str, float]:
    """Value to height: numbers in order of size, words in order of appearance, evenly spaced."""
    unique = list(dict.fromkeys(values))
    try:
        unique.sort(key=float)
    except ValueError:
        pass  # words have no size
    return {value: _height(order, 0, len(unique) - 1) for order, value in enumerate(unique)}


def _height(value: float, low: float, high: float) -> float:
    share = (value - low) / (high - low) if high > low else 0.5
    # SVG counts y downwards.
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _axis(x: float, name: str, places: dict[str, float]) -> str:
    labels = ''.join(
        f'<text class="halo" x="{x + 6:.1f}" y="{y - 4:.1f}">{escape(text)}</text>'
        for text, y in places.items()
    )
    # The outer names grow inwards: centred, long ones would leave the drawing.
    place, anchor = x, 'middle'
    if x <= MARGIN:
        place, anchor = 4, 'start'
    elif x >= WIDTH - MARGIN:
        place, anchor = WIDTH - 4, 'end'
    return (
        f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        f'<text class="label" x="{place:.1f}" y="14" text-anchor="{anchor}">{escape(name)}</text>{labels}'
    )
