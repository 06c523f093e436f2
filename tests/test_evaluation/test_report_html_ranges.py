"""Values with their intervals, inside a page and as a file of its own."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from internvl_mm.evaluation.report_html_ranges import NAME, NUMBER, WIDTH, Range, draw_ranges, size_of
from internvl_mm.evaluation.report_sweep import write_ranges

RANGES = [
    Range('parent', 90.0, (80.0, 100.0), '2 seeds', each=(89.0, 91.0)),
    Range('a <very> long name & more than fits', 50.0, None),
]
SVG = '{http://www.w3.org/2000/svg}'


def test_a_dot_per_row_and_a_whisker_where_an_interval_is_known() -> None:
    drawing = ElementTree.fromstring(f'<svg>{draw_ranges(RANGES, "digits/top1")}</svg>')
    dots = [float(dot.get('cx', 0)) for dot in drawing.iter('circle') if dot.get('class') == 'dot']
    rings = [float(ring.get('cx', 0)) for ring in drawing.iter('circle') if ring.get('class') == 'ring']
    (whisker,) = (path.get('d', '') for path in drawing.iter('path'))
    # From 80 by 100 around 90: the dot stands in the middle, the axis ends with the largest end.
    low, high = float(whisker[1:].split(' ')[0]), float(whisker.rpartition('M')[2].split(' ')[0])
    assert low < rings[0] < dots[0] == (low + high) / 2 < rings[1] < high
    assert dots[1] >= NAME and high <= WIDTH - NUMBER
    texts = [text.text for text in drawing.iter('text')]
    assert '90 (80 – 100)' in texts and '50' in texts and 'digits/top1' in texts
    assert 'a <very> long name & more t…' in texts
    assert size_of(RANGES)[1] > size_of(RANGES[:1])[1]


def test_a_file_reads_in_light_and_dark(tmp_path: Path) -> None:
    drawing = ElementTree.parse(write_ranges(tmp_path / 'best.svg', RANGES, 'digits/top1')).getroot()
    assert len(list(drawing.iter(f'{SVG}circle'))) == 4
    style = next(drawing.iter(f'{SVG}style')).text or ''
    assert 'prefers-color-scheme: dark' in style and '--card' in style and 'svg .whisker' in style
