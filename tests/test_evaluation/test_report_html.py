"""The page: complete, self-contained, and safe against what names and paths may hold."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from internvl_mm.evaluation.report import ResultRow
from internvl_mm.evaluation.report_html import duration_text, figures, value_text, write_report, write_summary
from internvl_mm.evaluation.report_html_chart import MAX_POINTS, Figure, draw, short_number
from internvl_mm.utils.errors import DataError

EVIL = '<script>alert("x")</script>'
VOID = {'meta', 'img', 'br'}


class Page(HTMLParser):
    """Collects tags and attributes, and checks that tags are closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self._open: list[str] = []
        self.feed(path.read_text(encoding='utf-8'))
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ('src', 'href')]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / 'runs' / 'finetune' / '20250101_000000'
    (folder / 'vis_data').mkdir(parents=True)
    (folder / 'pictures').mkdir()
    scalars = [
        {'train/loss': 1 / step, 'train/lr': 1e-3, 'val/digits/top1': 90.0 + step, 'step': step}
        for step in (1, 2)
    ]
    (folder / 'vis_data' / 'scalars.json').write_text(''.join(json.dumps(line) + '\n' for line in scalars))
    Image.new('RGB', (4, 4)).save(folder / 'pictures' / 'a.png')
    picture = dict(file='a.png', dataset=EVIL, index=3, label=EVIL, prediction='7', score=0.5, correct=False)
    bad = dict(dataset=EVIL, index=1, path=f'/data/{EVIL}.png', reason='truncated')
    stop = dict(
        what='loss', iteration=2, parts={'loss': 'nan'}, samples=[dict(dataset=EVIL, index=1, path=None)]
    )
    files = {
        'results.json': [dict(benchmark=EVIL, metric='top1', value=92.0, n=359)],
        'environment.json': dict(
            packages=dict(torch='2.14'), git='0123456789abcdef+changes', cpu=EVIL, gpus=[], cuda=None
        ),
        'run.json': dict(name=EVIL, started='2025-01-01 00:00:00', seconds=97.3, strategy='ddp, 2 processes'),
        'pictures/pictures.json': [picture],
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    (folder / 'bad_samples.jsonl').write_text(json.dumps(bad) + '\n')
    (folder / 'non_finite.jsonl').write_text(json.dumps(stop) + '\n')
    (folder / 'config.py').write_text(f'note = {EVIL!r}\n')
    return folder


def test_report(run):
    path = write_report(run)
    page, text = Page(path), path.read_text(encoding='utf-8')
    assert path == run / 'report.html'
    # self-contained: the only source is the embedded picture, and nothing of the data became markup
    assert all(link.startswith('data:image/png;base64,') for link in page.links) and len(page.links) == 1
    assert 'script' not in page.tags
    assert page.tags.count('svg') == 3
    for part in (
        '92.00 %',
        '88.',
        '1 min 37 s',
        'commit 0123456789',
        '1 step with a loss or gradient that was not finite',
        'iteration 2, loss: loss = nan',
        '1 unreadable sample',
        'note =',
    ):
        assert part in text


def test_summary(run, tmp_path):
    write_report(run)
    other = tmp_path / 'empty'
    other.mkdir()
    path = write_summary([run, other], tmp_path / 'summary.html')
    page, text = Page(path), path.read_text(encoding='utf-8')
    assert page.links == ['runs/finetune/20250101_000000/report.html']
    assert 'Summary of 2 runs' in text and 'no results' in text
    assert 'script' not in page.tags


def test_summary_of_nothing(tmp_path):
    with pytest.raises(DataError, match='got no run folder'):
        write_summary([], tmp_path / 'summary.html')


def test_figures_are_grouped_and_ordered():
    names = [
        'train/lr',
        'train/loss',
        'train/loss_aux',
        'val/digits/top1',
        'train/top1',
        'val/time',
        'val/digits/n',
        'x/y',
    ]
    grouped = [
        (figure.title, figure.unit, list(figure.series)) for figure in figures({name: [] for name in names})
    ]
    assert grouped == [
        ('Loss', 'loss', ['train/loss', 'train/loss_aux']),
        ('top1', '%', ['val/digits/top1', 'train/top1']),
        ('y', 'y', ['x/y']),
        ('Learning rate', 'learning rate', ['train/lr']),
    ]


def polyline(figure: Figure) -> list[tuple[float, float]]:
    (line,) = ElementTree.fromstring(draw(figure)).iter('polyline')
    return [tuple(map(float, point.split(','))) for point in line.get('points').split()]


def test_chart_maps_data_to_axes():
    figure = Figure('Loss', 'loss', {'a': [(0, 0.0), (50, 1.0), (100, 2.0)]})
    assert polyline(figure) == [(62.0, 208.0), (264.0, 109.0), (466.0, 10.0)]
    text = ''.join(ElementTree.fromstring(draw(figure)).itertext())
    assert 'iteration' in text and 'loss' in text and 'a: 1 at iteration 50' in text


def test_percent_axis_ends_at_100():
    labels = re.findall(
        r'text-anchor="end">([^<]+)<', draw(Figure('top1', '%', {'a': [(0, 35.0), (1, 99.5)]}))
    )
    assert labels[-1] == '100'


def test_long_and_broken_curves():
    curve = [(float(x), float(x)) for x in range(3 * MAX_POINTS)]
    figure = Figure('Loss', 'loss', {'a': curve})
    assert len(polyline(figure)) == MAX_POINTS and figure.note == 'each point is the mean of 3'
    broken = Figure('Loss', 'loss', {'a': [(0, 1.0), (1, math.nan), (2, 2.0)]})
    assert len(polyline(broken)) == 2 and broken.note == '1 non-finite value not drawn'
    assert 'no finite values' in draw(Figure('Loss', 'loss', {'a': [(0, math.inf)]}))


def test_constant_curve_has_an_axis():
    ys = {y for _, y in polyline(Figure('x', 'x', {'a': [(0, 5.0), (1, 5.0)]}))}
    assert len(ys) == 1 and 10 <= ys.pop() <= 208


@pytest.mark.parametrize(
    ('value', 'text'),
    [(0, '0'), (0.25, '0.25'), (3e-5, '3e-5'), (12000, '12k'), (2.5e6, '2.5M'), (-0.5, '-0.5')],
)
def test_tick_labels(value, text):
    assert short_number(value) == text


@pytest.mark.parametrize(('seconds', 'text'), [(42.4, '42 s'), (200, '3 min 20 s'), (18421, '5 h 07 min')])
def test_durations(seconds, text):
    assert duration_text(seconds) == text


def test_values():
    assert value_text(ResultRow('a', 'top1', 97.765, 10)) == '97.77 %'
    assert value_text(ResultRow('a', 'loss', 0.123456, 10)) == '0.1235'
