"""Reading a run folder, and its numbers as a table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from internvl_mm.evaluation.report import ResultRow, is_share, read_run, results_table
from internvl_mm.utils.errors import DataError


def row(**values) -> dict:
    return dict(benchmark='digits', metric='top1', value=90.0, n=100) | values


def write(folder: Path, name: str, content) -> None:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))


def test_empty_folder(tmp_path):
    run = read_run(tmp_path)
    assert run.facts.name == f'{tmp_path.parent.name}/{tmp_path.name}'
    assert (run.results, run.curves, run.pictures, run.bad_samples, run.non_finite) == ([], {}, [], [], [])


def test_interval_of_shares_only(tmp_path):
    rows = [
        row(),
        row(metric='loss', value=0.5),
        row(metric='ema/top5'),
        row(value=50.0, lower=1.0, upper=99.0),
    ]
    write(tmp_path, 'results.json', rows)
    top1, loss, top5, given = read_run(tmp_path).results
    # scipy.stats.binomtest(90, 100).proportion_ci(method='wilson')
    assert (top1.lower, top1.upper) == pytest.approx((82.56343, 94.47708), abs=1e-4)
    assert (top5.lower, top5.upper) == (top1.lower, top1.upper)
    assert loss.lower is None
    assert (given.lower, given.upper) == (1.0, 99.0)


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('top1', True),
        ('val/digits/ema/top10', True),
        ('loss', False),
        ('top1_gap', False),
        ('mean_top1_top5', False),
        ('mean_set/top1', True),
    ],
)
def test_is_share(name, expected):
    assert is_share(name) is expected


def test_curves_of_a_resumed_run(tmp_path):
    lines = [
        {'train/loss': 3.0, 'epoch': 1, 'iter': 1, 'step': 1},
        {'train/loss': 2.0, 'iter': 2, 'step': 2},
        {'train/loss': 1.5, 'iter': 2, 'step': 2, 'train/note': 'text'},
    ]
    text = '\n'.join(map(json.dumps, lines)) + '\n{"train/loss": 0.1, "st'
    write(tmp_path, 'vis_data/scalars.json', text)
    assert read_run(tmp_path).curves == {'train/loss': [(1, 3.0), (2, 1.5)]}


def test_ledgers_of_all_processes(tmp_path):
    write(tmp_path, 'bad_samples.jsonl', '{"index": 1}\n')
    write(tmp_path, 'bad_samples_rank1.jsonl', '{"index": 2}\n')
    assert [line['index'] for line in read_run(tmp_path).bad_samples] == [1, 2]


def test_table():
    rows = [
        ResultRow('a|b', 'top1', 97.765, 1359, lower=95.67, upper=98.87),
        ResultRow('digits', 'loss', 0.5, 7),
    ]
    assert results_table(rows).splitlines()[2:] == [
        '| a\\|b | top1 | 97.77 | 95.67 – 98.87 | 1,359 |',
        '| digits | loss | 0.5 | – | 7 |',
    ]


def test_not_a_run_folder(tmp_path):
    with pytest.raises(DataError, match='nowhere is not a run folder: give'):
        read_run(tmp_path / 'nowhere')


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('results.json', '[{', 'results.json is not JSON'),
        ('results.json', '[{"benchmark": "digits"}]', r"a row lacks \['metric', 'n', 'value'\]"),
        ('vis_data/scalars.json', 'loss 3\n', 'holds a line that is not JSON'),
    ],
)
def test_damaged_files(tmp_path, name, content, message):
    write(tmp_path, name, content)
    with pytest.raises(DataError, match=message):
        read_run(tmp_path)


def test_ledgers_may_hold_separators_that_end_no_line(tmp_path):
    write(tmp_path, 'results.json', [])
    line = json.dumps(dict(dataset='d', index=0, path='a\u2028b.png', reason='broken'), ensure_ascii=False)
    (tmp_path / 'bad_samples.jsonl').write_text(line + '\n', encoding='utf-8')
    assert [bad['path'] for bad in read_run(tmp_path).bad_samples] == ['a\u2028b.png']
