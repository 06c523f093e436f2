"""Values and their intervals as dots and whiskers: whether settings differ by more than chance, at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from internvl_mm.evaluation.report_html_chart import Scale, scale, short_number

# SVG user units: the drawing, its columns of names (left) and of numbers (right), a row, the axis below the rows.
WIDTH, NAME, NUMBER, ROW, AXIS = 760, 190, 200, 28, 44
TOP = 10
CAP = 5  # half the height of the end of a whisker
LONGEST = 28  # characters of a name that fit into its column


@dataclass(frozen=True)
class Range:
    """One row.

    Attributes:
        name: What was measured.
        value: The number.
        interval: Both ends; ``None`` where none is known.
        note: What the interval is over.
        each: The numbers ``value`` is the mean of.
    """

    name: str
    value: float
    interval: tuple[float, float] | None = None
    note: str = ''
    each: tuple[float, ...] = ()


def draw_ranges(ranges: Sequence[Range], label: str) -> Markup:
    """Draw rows from top to bottom as the contents of an SVG element of :func:`size_of` rows.

    Args:
        ranges: At least one.
        label: Of the axis.
    """
    ends = [end for row in ranges for end in (row.value, *row.each, *(row.interval or ()))]
    ticks, x = scale(ends, NAME, WIDTH - NUMBER)
    bottom = ROW * len(ranges) + TOP
    grid = ''.join(
        f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{TOP}" y2="{bottom}"/>'
        f'<text x="{x(tick):.1f}" y="{bottom + 17}" text-anchor="middle">{short_number(tick)}</text>'
        for tick in ticks
    )
    rows = ''.join(_row(row, TOP + ROW * (order + 0.5), x) for order, row in enumerate(ranges))
    middle = (NAME + WIDTH - NUMBER) / 2
    name = f'<text x="{middle:.1f}" y="{bottom + 35}" text-anchor="middle">{escape(label)}</text>'
    return Markup(f'{grid}{rows}{name}')


def size_of(ranges: Sequence[Range]) -> tuple[int, int]:
    """Width and height of the drawing of so many rows, in SVG user units."""
    return WIDTH, ROW * len(ranges) + TOP + AXIS


def _row(row: Range, y: float, x: Scale) -> str:
    number = f'{row.value:.4g}'
    whisker = ''
    if row.interval is not None:
        low, high = (x(end) for end in row.interval)
        number += f' ({row.interval[0]:.4g} – {row.interval[1]:.4g})'
        path = f'M{low:.1f} {y - CAP}v{2 * CAP}M{low:.1f} {y}H{high:.1f}M{high:.1f} {y - CAP}v{2 * CAP}'
        whisker = f'<path class="whisker" d="{path}"/>'
    # Rings: of a few seeds their spread says more than an interval.
    rings = ''.join(f'<circle class="ring" cx="{x(one):.1f}" cy="{y}" r="3.5"/>' for one in row.each)
    name = row.name if len(row.name) <= LONGEST else f'{row.name[: LONGEST - 1]}…'
    return (
        f'<g><title>{escape(row.name)}: {number} {escape(row.note)}</title>'
        f'<text class="name" x="{NAME - 14}" y="{y + 4}" text-anchor="end">{escape(name)}</text>{whisker}{rings}'
        f'<circle class="dot" cx="{x(row.value):.1f}" cy="{y}" r="4.5"/>'
        f'<text x="{WIDTH - NUMBER + 14}" y="{y + 4}">{number}</text></g>'
    )
