"""What metrics leave beside their numbers: kept in the run folder, drawn in the report."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from internvl_mm.evaluation.figures import Bars, Lines, read_figures, write_figures
from internvl_mm.evaluation.report_html import write_report
from internvl_mm.evaluation.report_html_chart import MAX_BARS, WIDTH, draw_bars

BARS = Bars('AP by class', '%', {'cat': 50.0, 'a < b': 100.0, 'dog': 0.0})
LINES = Lines('precision over recall', 'precision, %', 'recall, %', {'IoU 0.5': [(0.0, 100.0), (50.5, 20.0)]})


def test_figures_come_back_and_other_benchmarks_stay(tmp_path: Path) -> None:
    assert read_figures(tmp_path) == {}
    write_figures(tmp_path, dict(empty=[]))
    assert not (tmp_path / 'figures.json').exists()
    write_figures(tmp_path, dict(coco=[BARS, LINES], other=[]))
    write_figures(tmp_path, dict(lvis=[BARS]))
    found = read_figures(tmp_path)
    assert list(found) == ['coco', 'lvis'] and found['coco'][0] == BARS
    assert found['coco'][1].series == {'IoU 0.5': [[0.0, 100.0], [50.5, 20.0]]}


def test_bars_are_ranked_and_as_long_as_their_values() -> None:
    drawing = ElementTree.fromstring(str(draw_bars(BARS)))
    widths = [float(bar.get('width')) for bar in drawing.iter('rect')]
    names = [text.text for text in drawing.iter('text')][::2]
    assert names == ['a < b', 'cat', 'dog']
    assert widths[1] == pytest.approx(widths[0] / 2, abs=0.1) and widths[2] == 0 and widths[0] < WIDTH


def test_many_classes_show_the_best_and_the_worst() -> None:
    drawn = str(draw_bars(Bars('IoU', '%', {f'class {index}': float(index) for index in range(100)})))
    assert drawn.count('<rect') == MAX_BARS and '40 classes in the middle are not drawn' in drawn
    assert 'class 99:' in drawn and 'class 0:' in drawn and 'class 50:' not in drawn


def test_the_report_draws_them(tmp_path: Path) -> None:
    write_figures(tmp_path, dict(coco=[BARS, LINES]))
    page = write_report(tmp_path).read_text('utf-8')
    assert 'coco in detail' in page and 'AP by class, %' in page and 'IoU 0.5' in page
    assert 'recall, %</text>' in page and 'at recall, % 50.5' in page and 'a &lt; b: 100 %' in page
