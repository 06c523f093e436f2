"""Sweeps from end to end, with a stand-in for the training."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest

from internvl_mm.engine.sweep import collect
from internvl_mm.engine.sweep.launch import launch
from internvl_mm.engine.sweep.report import leaf_labels, report
from internvl_mm.engine.sweep.search import search
from internvl_mm.engine.sweep.table import best
from internvl_mm.utils.errors import ConfigError
from tools.sweep import main

LEAF = 'config=quickstart/finetune_intern_vit_tiny_digits'
FAKE = [sys.executable, str(Path(__file__).with_name('fake_train.py'))]


def run(root: Path, *words: str) -> int:
    launch([LEAF, *words], root, train=FAKE)
    return report(root)


def test_a_grid_ends_in_tables_and_a_page(tmp_path: Path) -> None:
    assert run(tmp_path, 'optim.lr=1,2', 'seed=0,1') == 0
    with open(tmp_path / 'table.csv', newline='') as file:
        header, *lines = csv.reader(file)
    assert header == ['optim.lr', 'seed', 'digits/top1', 'digits/top1 95 %', 'status', 'seconds', 'command']
    assert [line[:3] for line in lines] == [
        ['1', '0', '10'],
        ['1', '1', '11'],
        ['2', '0', '20'],
        ['2', '1', '21'],
    ]
    # Wilson's of 10 hits in 100.
    assert lines[0][3:5] == ['5.52 – 17.44', 'finished']
    assert lines[0][-1].endswith('--cfg-options optim_wrapper.optimizer.lr=1 randomness.seed=0')
    page = (tmp_path / 'report.html').read_text()
    assert (
        page.count('<polyline') == 4
        and page.count('class="whisker"') == 2
        and 'optim_wrapper.optimizer.lr=2' in page
    )
    assert (tmp_path / 'table.md').read_text().startswith('| optim.lr | seed | digits/top1 |')
    assert '| 2 | 20.5 | 14.15 – 26.85 | 2 seeds | 0 |' in (tmp_path / 'best.md').read_text()


def test_the_best_setting_is_a_mean_over_seeds(tmp_path: Path) -> None:
    run(tmp_path, 'optim.lr=1,2', 'seed=0,1')
    first, second = best(collect(tmp_path), 'digits/top1')
    assert (first.values['optim.lr'], first.value, first.seeds) == ('2', 20.5, 2)
    # Student's t with one degree of freedom: 12.706 standard errors of 0.5
    assert first.interval == pytest.approx((20.5 - 6.353, 20.5 + 6.353), abs=1e-3)
    assert first.each == (20, 21)
    # No share lies below 0: only half of the interval of 0 and 1 is possible.
    launch([LEAF, 'optim.lr=0', 'seed=0,1'], tmp_path / 'low', train=FAKE)
    assert best(collect(tmp_path / 'low'), 'digits/top1')[0].interval == pytest.approx((0, 6.853), abs=1e-3)
    assert (first.over, second.over) == ('2 seeds', '2 seeds')
    assert best(collect(tmp_path), 'digits/top1', less=True)[0] == second


def test_a_single_seed_has_the_interval_of_its_samples(tmp_path: Path) -> None:
    run(tmp_path, 'optim.lr=1')
    (row,) = best(collect(tmp_path), 'digits/top1')
    assert row.interval == pytest.approx((5.523, 17.437), abs=1e-3) and row.over == 'test samples of 1 seed'


def test_leaves_are_named_by_what_tells_them_apart(tmp_path: Path) -> None:
    parent, child = 'quickstart/a_tiny_digits', 'quickstart/ablations/a_tiny_digits_no_norm.py'
    assert leaf_labels([parent, child]) == {parent: 'parent', child: 'no_norm'}
    assert leaf_labels([child]) == {child: 'a_tiny_digits_no_norm'}
    assert leaf_labels(['x/a', 'y/a']) == {'x/a': 'x/a', 'y/a': 'y/a'}
    leaf = 'finetune_intern_vit_tiny_digits'
    word = f'config=quickstart/{leaf},quickstart/ablations/{leaf}_no_qk_norm'
    launch([word], tmp_path, train=FAKE)
    report(tmp_path)
    # In the drawing, where the whole names would not fit.
    page = (tmp_path / 'report.html').read_text()
    assert '>parent</text>' in page and '>no_qk_norm</text>' in page


def test_finished_points_are_not_run_again_and_failed_ones_are(tmp_path: Path, capsys) -> None:
    assert run(tmp_path, 'optim.lr=1,1000', 'sweep.retries=0') == 1
    out = capsys.readouterr().out
    assert 'exit status 1: the loss is infinite' in out.replace('\n', ' ')
    # Already beside the point that failed, not in the report alone.
    (line,) = [line for line in out.splitlines() if line.startswith('failed in')]
    assert line.endswith('optim.lr=1000: exit status 1: the loss is infinite')
    good, bad = collect(tmp_path)
    assert (good.state.status, bad.state.status, bad.state.tries) == ('finished', 'failed', 1)
    assert run(tmp_path, 'optim.lr=1,1000', 'sweep.retries=0') == 1
    assert 'done before: config=' in capsys.readouterr().out
    assert [row.state.tries for row in collect(tmp_path)] == [1, 2]


def test_a_failure_is_tried_again(tmp_path: Path) -> None:
    assert run(tmp_path, 'optim.lr=7') == 0
    (row,) = collect(tmp_path)
    assert (row.state.status, row.state.tries, row.metrics['digits/top1']) == ('finished', 2, 70)


def test_equal_points_run_once(tmp_path: Path, capsys) -> None:
    run(tmp_path, 'optim.lr=1.0,1.00')
    assert '1 of 2 points are the same run' in capsys.readouterr().out
    assert len(collect(tmp_path)) == 1


def test_a_mistake_stops_before_the_first_point(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='momentun'):
        run(tmp_path, 'optim.lr=1', 'optim_wrapper.optimizer.momentun=0,1')
    with pytest.raises(ConfigError, match='sweep.retry'):
        run(tmp_path, 'optim.lr=1', 'sweep.retry=3')
    assert not (tmp_path / 'points').exists()


def test_a_metric_that_is_not_measured(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match='sweep.metric=digits/top2 is not measured; measured are: digits/top1'
    ):
        run(tmp_path, 'optim.lr=1', 'sweep.metric=digits/top2')


def test_a_metric_of_no_benchmark_stops_before_the_first_point(tmp_path: Path) -> None:
    for words in (['optim.lr=1'], ['optim.lr=interval(1,9)', 'hydra/sweeper=optuna']):
        with pytest.raises(
            ConfigError, match=r"digit/top1 begins with no benchmark .* Did you mean 'digits'\?"
        ):
            run(tmp_path, *words, 'sweep.metric=digit/top1')
    assert not (tmp_path / 'points').exists()


def test_a_search_goes_where_results_are_better(tmp_path: Path, monkeypatch) -> None:
    words = ['hydra/sweeper=optuna', 'optim.lr=interval(1,9)', 'seed=0,1', 'sweep.trials=6', 'sweep.seed=1']
    assert run(tmp_path, *words) == 0
    rows = collect(tmp_path)
    assert len(rows) == 6 and all(1 <= float(row.state.values['optim.lr']) <= 9 for row in rows)
    # The same again: nothing is run a second time.
    assert run(tmp_path, *words) == 0
    assert [row.state.tries for row in collect(tmp_path)] == [1] * 6
    with pytest.raises(ConfigError, match='has nothing to choose'):
        run(tmp_path, 'hydra/sweeper=optuna', 'optim.lr=1')
    monkeypatch.setitem(sys.modules, 'optuna', None)
    with pytest.raises(ConfigError, match=r"needs Optuna: pip install 'internvl_mm\[sweeps\]'"):
        run(tmp_path, *words)


def test_a_search_finds_the_best_and_forgives_failures() -> None:
    def lopsided(point: list[str]) -> float | None:
        rate = float(point[-1].partition('=')[2])
        return None if rate > 0.5 else -abs(rate - 0.01)

    words = ['config=leaf', '+rate=tag(log,interval(1e-4,1))']
    best_value = search(words, lopsided, trials=40)
    assert best_value > -0.002
    assert search(words, lambda point: None, trials=2) is None
    assert search(words, lambda point: 1 / float(point[-1].partition('=')[2]), trials=20, less=True) < 2


def test_points_at_the_same_time(tmp_path: Path) -> None:
    words = ['hydra/launcher=joblib', 'hydra.launcher.n_jobs=2', 'optim.lr=1,2']
    assert run(tmp_path, *words) == 0
    assert [row.metrics['digits/top1'] for row in collect(tmp_path)] == [10, 20]


def test_a_launcher_that_is_not_installed_is_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr('internvl_mm.engine.sweep.launch._is_installed', lambda package: False)
    with pytest.raises(ConfigError, match='hydra/launcher=ray needs hydra-ray-launcher: pip install'):
        run(tmp_path, 'hydra/launcher=ray', 'optim.lr=1')
    with pytest.raises(ConfigError, match='hydra/launcher=submitit_slurm needs hydra-submitit-launcher'):
        run(tmp_path, 'hydra/launcher=submitit_slurm', 'optim.lr=1')


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['sweep.sample=-1'], 'sweep.sample=-1, and the least is 1'),
        (['sweep.sample=few'], "sweep.sample=few .*'few'"),
        (['sweep.retries=-1'], 'sweep.retries=-1, and the least is 0'),
        (['hydra/sweeper=optuna', 'seed=0,1', 'sweep.trials=0'], 'sweep.trials=0, and the least is 1'),
        (['hydra/sweeper=optuna', 'optim.lr=interval(9,1)'], 'optim.lr=interval.*low <= high'),
        (['hydra/sweeper=optuna', 'optim.lr=tag(log,interval(0,1))'], 'optim.lr=tag.*low > 0'),
    ],
)
def test_settings_of_a_sweep_are_checked(tmp_path: Path, words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(tmp_path, *words)
    assert not (tmp_path / 'points').exists()


def test_what_is_better_is_read_as_hydra_reads_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr('tools.sweep.TRAIN', Path(FAKE[1]))
    assert main([LEAF, 'optim.lr=1,2', 'sweep.less=1', '--work-dir', str(tmp_path)]) == 0
    first, *_ = (tmp_path / 'best.md').read_text().splitlines()[2:]
    assert first.startswith('| 1 | 10 ')
