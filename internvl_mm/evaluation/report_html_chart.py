"""Line and bar charts as inline SVG whose colours follow the page, so that they read in light and dark."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from markupsafe import Markup, escape
from matplotlib.ticker import MaxNLocator

from internvl_mm.evaluation.figures import Bars
from internvl_mm.evaluation.report import Curve

# SVG user units; the page scales the drawing to its column.
WIDTH, HEIGHT = 480, 250
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 10, 42
MAX_POINTS = 300  # more would not show at this size
MARKED_POINTS = 40  # a figure with no longer curve gets a mark per point
# Bar charts: height of a row, room for names and for values, and how many classes a page can show.
BAR, NAME, VALUE, MAX_BARS = 16, 110, 40, 60
COLOURS = 6  # the page defines --series-0 … --series-5
DASHES = ('', '6 3', '2 3')  # of the first, second, third time around the colours, as in the legend

Scale = Callable[[float], float]


@dataclass(frozen=True)
class Figure:
    """A chart: curves by name over iterations.

    Attributes:
        title: What is shown.
        unit: Unit of the values, the label of the vertical axis.
        series: Legend text → points ``(iteration, value)``, or over what ``x_label`` says.
        x_label: Label of the horizontal axis.
    """

    title: str
    unit: str
    series: dict[str, Curve]
    x_label: str = 'iteration'

    @property
    def note(self) -> str:
        """What the drawing leaves out of the data: averaged points, values that are no numbers."""
        longest = max((len(curve) for curve in self.series.values()), default=0)
        lost = sum(not math.isfinite(y) for curve in self.series.values() for _, y in curve)
        notes = [f'each point is the mean of {_bucket(longest)}'] if longest > MAX_POINTS else []
        notes += [f'{lost} non-finite value{"s" if lost > 1 else ""} not drawn'] if lost else []
        return ', '.join(notes)


def draw(figure: Figure) -> Markup:
    """Draw a figure as an SVG element with axes, ticks, units and one tooltip per marked point."""
    series = {name: _thin(curve) for name, curve in figure.series.items()}
    points = [point for curve in series.values() for point in curve]
    if not points:
        return Markup('<p class="muted">no finite values</p>')
    x_ticks, x = scale([p[0] for p in points], LEFT, WIDTH - RIGHT, whole=figure.x_label == 'iteration')
    y_ticks, y = scale(
        [p[1] for p in points], HEIGHT - BOTTOM, TOP, largest=100 if figure.unit == '%' else math.inf
    )
    marked = max(len(curve) for curve in series.values()) <= MARKED_POINTS
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(figure.title)}">',
        *(_y_tick(value, y(value)) for value in y_ticks),
        *(_x_tick(value, x(value)) for value in x_ticks),
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}"/>',
        f'<text class="label" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">'
        f'{escape(figure.x_label)}</text>',
        f'<text class="label" transform="translate(12 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" '
        f'text-anchor="middle">{escape(figure.unit)}</text>',
        *(
            _line(order, curve, x, y, name if marked else None, figure.x_label)
            for order, (name, curve) in enumerate(series.items())
        ),
        '</svg>',
    ]
    return Markup(''.join(parts))


def draw_bars(bars: Bars) -> Markup:
    """Draw one horizontal bar per class, the largest value first, as an SVG as high as it needs to be."""
    ranked = sorted(bars.values.items(), key=lambda entry: -entry[1])
    # The best and the worst; those between are counted in the note below.
    shown = ranked if len(ranked) <= MAX_BARS else [*ranked[: MAX_BARS // 2], *ranked[-MAX_BARS // 2 :]]
    largest = 100.0 if bars.unit == '%' else max((value for _, value in ranked), default=1.0) or 1.0
    scale = (WIDTH - NAME - VALUE) / largest
    # A negative value has no bar, but its number.
    rows = [
        f'<text x="{NAME - 6}" y="{BAR * row + 12}" text-anchor="end">{escape(name[:18])}</text>'
        f'<rect class="bar" x="{NAME}" y="{BAR * row + 2}" width="{max(0.0, value) * scale:.1f}" height="{BAR - 4}">'
        f'<title>{escape(name)}: {value:.4g} {escape(bars.unit)}</title></rect>'
        f'<text x="{NAME + max(0.0, value) * scale + 4:.1f}" y="{BAR * row + 12}">{value:.1f}</text>'
        for row, (name, value) in enumerate(shown)
    ]
    height = BAR * max(len(shown), 1)
    label = escape(bars.title)
    drawn = f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">{"".join(rows)}</svg>'
    left_out = len(ranked) - len(shown)
    note = f'<figcaption>{left_out} classes in the middle are not drawn</figcaption>' if left_out else ''
    return Markup(drawn + note)


def short_number(value: float) -> str:
    """Return a tick label: 12k, 0.25, 3e-05."""
    if value and abs(value) < 1e-3:
        mantissa, exponent = f'{value:.2e}'.split('e')
        return f'{float(mantissa):g}e{int(exponent)}'
    if abs(value) >= 10_000:
        return f'{value / 1000:g}k' if abs(value) < 1e6 else f'{value / 1e6:g}M'
    return f'{value:.6g}'


def scale(
    values: list[float], start: float, end: float, *, whole: bool = False, largest: float = math.inf
) -> tuple[list[float], Scale]:
    """Return round tick values around the data and the map from value to position.

    Args:
        values: The data of one axis.
        start: Position of the smallest value.
        end: Position of the largest value.
        whole: Ticks at whole numbers, and an axis that ends with the data.
        largest: No tick lies above it, unless data does.
    """
    low, high = min(values), max(values)
    if low == high:
        margin = abs(low) * 0.1 or 1.0  # a flat curve needs some height
        low, high = low - margin, high + margin
    # At most six ticks, apart by 1, 2, 2.5 or 5 times a power of ten.
    locator = MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10], integer=whole)
    ticks = [float(tick) for tick in locator.tick_values(low, high)]
    if whole:
        ticks = [tick for tick in ticks if low <= tick <= high]
    else:
        low, high = ticks[0], max(max(values), min(ticks[-1], largest))
        ticks = [tick for tick in ticks if tick <= high]
    return ticks, lambda value: start + (value - low) / (high - low) * (end - start)


def _bucket(length: int) -> int:
    return math.ceil(length / MAX_POINTS)


def _thin(curve: Curve) -> Curve:
    """Average neighbouring points so that at most ``MAX_POINTS`` remain; non-finite values are left out."""
    size = _bucket(len(curve))
    finite = [(x, y) for x, y in curve if math.isfinite(y)]
    buckets = [finite[i : i + size] for i in range(0, len(finite), max(size, 1))]
    # At its last iteration, where the mean was first known.
    return [(bucket[-1][0], sum(y for _, y in bucket) / len(bucket)) for bucket in buckets]


def _y_tick(value: float, y: float) -> str:
    line = f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return f'{line}<text x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{short_number(value)}</text>'


def _x_tick(value: float, x: float) -> str:
    bottom = HEIGHT - BOTTOM
    line = f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}"/>'
    return f'{line}<text x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{short_number(value)}</text>'


def _line(order: int, curve: Curve, x: Scale, y: Scale, name: str | None, x_label: str) -> str:
    """Draw one curve, with marks when it is given a name; colours repeat with dashes, then with dots."""
    colour = f'style="--colour:var(--series-{order % COLOURS})"'
    pattern = DASHES[order // COLOURS % len(DASHES)]
    dashes = f' stroke-dasharray="{pattern}"' if pattern else ''
    path = ' '.join(f'{x(px):.1f},{y(py):.1f}' for px, py in curve)
    marks = ''
    if name is not None:
        marks = ''.join(
            f'<circle cx="{x(px):.1f}" cy="{y(py):.1f}" r="3"><title>{escape(name)}: {py:.5g} '
            f'at {escape(x_label)} {px:g}</title></circle>'
            for px, py in curve
        )
    return f'<g class="series" {colour}><polyline points="{path}"{dashes}/>{marks}</g>'
