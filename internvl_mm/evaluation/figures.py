"""Figures a metric leaves beside its numbers: bars over classes, lines such as precision over recall.

A metric fills its list ``figures`` in ``compute_metrics``; the benchmark loop writes them into the run folder, and the
report draws them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

from internvl_mm.utils.disk import write_whole

FIGURES = 'figures.json'


@dataclass(frozen=True)
class Bars:
    """One value per class.

    Attributes:
        title: What is shown, e.g. ``'IoU by class'``.
        unit: Unit of the values.
        values: Class name to value.
    """

    title: str
    unit: str
    values: dict[str, float]


@dataclass(frozen=True)
class Lines:
    """Lines over a quantity that is not the iteration.

    Attributes:
        title: What is shown.
        unit: Label of the vertical axis.
        x_label: Label of the horizontal axis.
        series: Legend text to points (x, y).
    """

    title: str
    unit: str
    x_label: str
    series: dict[str, list[tuple[float, float]]]


MetricFigure: TypeAlias = Bars | Lines


def write_figures(folder: str | Path, figures: Mapping[str, Sequence[MetricFigure]]) -> None:
    """Keep the figures of each benchmark in a run folder; those of other benchmarks stay.

    Args:
        folder: The run folder.
        figures: Benchmark to its figures; benchmarks without any change nothing.
    """
    path = Path(folder) / FIGURES
    kept = json.loads(path.read_text('utf-8')) if path.exists() else {}
    new = {
        # The kind tells read_figures which of the two to build.
        name: [dict(asdict(figure), kind=type(figure).__name__) for figure in drawn]
        for name, drawn in figures.items()
        if drawn
    }
    if not new:
        return
    write_whole(path, json.dumps(kept | new, ensure_ascii=False))


def read_figures(folder: str | Path) -> dict[str, list[MetricFigure]]:
    """The figures of a run folder by benchmark; empty when it has none."""
    path = Path(folder) / FIGURES
    if not path.is_file():
        return {}
    kinds: dict[str, type] = {'Bars': Bars, 'Lines': Lines}
    stored = json.loads(path.read_text('utf-8'))
    return {
        name: [kinds[entry.pop('kind')](**entry) for entry in entries] for name, entries in stored.items()
    }
