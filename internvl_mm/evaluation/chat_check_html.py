"""One page about chat data: how long, how many tiles, and what is wrong."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from internvl_mm.evaluation.chat_check import FINDINGS, SampleReport, count_findings
from internvl_mm.evaluation.report_html import templates, write_page

EXAMPLES = 5  # samples shown of each kind of finding; all are in the JSONL


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram.

    Attributes:
        label: The values it stands for.
        count: Samples.
        share: Of the highest bar, 0–100.
    """

    label: str
    count: int
    share: float


def write_check_page(reports: Sequence[SampleReport], path: str | Path, *, title: str) -> Path:
    """Write the page.

    Args:
        reports: Of every sample.
        path: The HTML file.
        title: What was checked.
    """
    counts = count_findings(reports)
    findings = [
        (kind, count, FINDINGS[kind], _examples(reports, kind)[:EXAMPLES]) for kind, count in counts.items()
    ]
    page = (
        templates()
        .get_template('chat_data.html')
        .render(
            title=title,
            tiles=_headline(reports),
            sets=summarise(reports),
            findings=findings,
            histograms=[
                ('Tokens per sample', length_bars([r.tokens for r in reports if r.tokens is not None])),
                (
                    'Tokens to learn per sample',
                    length_bars([r.labels for r in reports if r.labels is not None]),
                ),
                ('Tiles per sample', count_bars([r.tiles for r in reports if r.tiles is not None])),
            ],
        )
    )
    return write_page(Path(path), page)


def summarise(reports: Sequence[SampleReport]) -> list[tuple[str, int, int, int, float, float, int]]:
    """Per data set: name, samples, usable ones, tokens in all, mean tokens, mean tiles, longest sample."""
    rows = []
    for name in dict.fromkeys(report.dataset for report in reports):
        own = [report for report in reports if report.dataset == name]
        tokens = [report.tokens for report in own if report.tokens is not None]
        tiles = [report.tiles for report in own if report.tiles is not None]
        usable = sum(report.usable for report in own)
        rows.append(
            (name, len(own), usable, sum(tokens), _mean(tokens), _mean(tiles), max(tokens, default=0))
        )
    return rows


def length_bars(values: Sequence[int]) -> list[Bar]:
    """Histogram in powers of two, as lengths spread over several of them."""
    # The power of two below, exact for whole numbers.
    counts = Counter(max(value, 1).bit_length() - 1 for value in values)
    # Lengths that no sample has get a bar, too, of height 0: the axis keeps its scale.
    powers = range(min(counts, default=0), max(counts, default=-1) + 1)
    return _bars({f'{2**power:,} – {2 ** (power + 1) - 1:,}': counts[power] for power in powers})


def count_bars(values: Sequence[int]) -> list[Bar]:
    """Histogram of whole numbers, at most 16 bars."""
    # Whole numbers per bar, so that no bar stands for a fraction of a tile.
    # + 1: bars begin at 0, the tiles of text alone.
    width = math.ceil((max(values, default=0) + 1) / 16)
    counts = Counter(value // width for value in values)
    labels = {
        number: str(number) if width == 1 else f'{number * width} – {(number + 1) * width - 1}'
        for number in range(min(counts, default=0), max(counts, default=-1) + 1)
    }
    return _bars({label: counts[number] for number, label in labels.items()})


def _bars(counts: dict[str, int]) -> list[Bar]:
    highest = max(counts.values(), default=1)
    return [Bar(label, count, 100 * count / highest) for label, count in counts.items()]


def _headline(reports: Sequence[SampleReport]) -> list[tuple[str, str, str]]:
    usable = sum(report.usable for report in reports)
    tokens = [report.tokens for report in reports if report.tokens is not None]
    tiles = [report.tiles for report in reports if report.tiles is not None]
    total, mean = (
        (f'{sum(tokens):,}', f'{_mean(tokens):,.0f} per sample') if tokens else ('–', 'without a tokenizer')
    )
    return [
        (f'{len(reports):,}', 'samples', f'{len(reports) - usable:,} cannot be used'),
        (total, 'tokens', mean),
        (f'{sum(tiles):,}', 'tiles', f'{_mean(tiles):.1f} per sample'),
    ]


def _examples(reports: Sequence[SampleReport], kind: str) -> list[tuple[str, str]]:
    return [(report.path, text) for report in reports for found, text in report.findings if found == kind]


def _mean(values: Sequence[int]) -> float:
    return sum(values) / len(values) if values else 0.0
