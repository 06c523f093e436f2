"""From words on a command line to points whose configs are checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from internvl_mm.engine.config import load_config
from internvl_mm.engine.sweep import Point, expand, resolve
from internvl_mm.engine.sweep.points import appended, swept
from internvl_mm.utils.errors import ConfigError

LEAF = 'quickstart/knn_intern_vit_tiny_digits'


def test_commas_and_ranges_span_a_grid() -> None:
    points = expand(appended([f'config={LEAF}', 'seed=range(3)', 'epochs=1,2']))
    assert len(points) == 6
    assert points[0] == [f'config={LEAF}', '+seed=0', '+epochs=1']
    assert Point.parse(points[-1]).values == dict(config=LEAF, seed='2', epochs='2')


def test_a_sample_of_the_grid_is_the_same_for_a_seed() -> None:
    words = appended([f'config={LEAF}', 'seed=range(20)'])
    drawn = expand(words, sample=5, seed=1)
    assert len(drawn) == 5 and drawn == expand(words, sample=5, seed=1) != expand(words, sample=5, seed=2)
    assert expand(words, sample=50) == expand(words)


def test_points_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / 'points.txt'
    file.write_text('# two of them\nseed=1 epochs=3\n\nseed=2\n')
    points = [Point.parse(point).settings for point in expand([f'config={LEAF}'], file=str(file))]
    assert points == [('seed=1', 'epochs=3'), ('seed=2',)]
    file.write_text('# none\n')
    with pytest.raises(ConfigError, match='has no points: write the settings of one point per line'):
        expand([f'config={LEAF}'], file=str(file))
    with pytest.raises(ConfigError, match='sweep.file=absent.txt cannot be read'):
        expand([f'config={LEAF}'], file='absent.txt')


def test_what_spans_no_grid_is_refused() -> None:
    with pytest.raises(ConfigError, match='an interval has no points of its own'):
        expand(['+optim.lr=interval(0,1)'])
    with pytest.raises(ConfigError, match='cannot be read'):
        expand(['+optim.lr=[1,'])


def test_short_names() -> None:
    assert resolve('optim.lr=1e-4') == ['optim_wrapper.optimizer.lr=1e-4']
    assert resolve('model.head.num_classes=3') == ['model.head.num_classes=3']
    assert resolve('backbone=small')[:2] == [
        'model.backbone.hidden_size=128',
        'model.backbone.num_hidden_layers=6',
    ]
    with pytest.raises(ConfigError, match="backbone=smal: there is no such backbone.*Did you mean 'small'"):
        resolve('backbone=smal')


@pytest.mark.parametrize(
    ('word', 'value'),
    [
        ('load_from=null', None),
        ('load_from=None', None),
        ('load_from="my folder/a.pth"', 'my folder/a.pth'),
        ("load_from='my folder/a.pth'", 'my folder/a.pth'),
        (r'load_from=my\ folder/a.pth', 'my folder/a.pth'),
        ('load_from=my folder/a.pth', 'my folder/a.pth'),
        ('load_from=[null,"a b",1e-4,true]', [None, 'a b', 1e-4, True]),
        ('load_from=false', False),
    ],
)
def test_values_are_what_hydra_means_by_them(word: str, value: object) -> None:
    (overrides,) = expand([f'config={LEAF}', word])
    point = Point.parse(overrides)
    assert load_config(point.config, point.options).load_from == value


def test_a_length_moves_the_ends_of_schedules() -> None:
    leaf = 'quickstart/finetune_intern_vit_tiny_digits'
    assert Point(leaf, ('epochs=5',)).options == ['param_scheduler.0.end=5', 'train_cfg.max_epochs=5']
    # What the user writes comes later and holds; a schedule that counts epochs has no end in iterations.
    assert Point(leaf, ('epochs=5', 'param_scheduler.0.end=9')).options[-1] == 'param_scheduler.0.end=9'
    assert Point(leaf, ('iterations=5',)).options == ['train_cfg.max_iters=5']


def test_ends_of_warm_ups_and_single_schedules(tmp_path: Path) -> None:
    leaf = tmp_path / 'leaf.py'
    leaf.write_text(
        'train_cfg = dict(max_iters=100)\n'
        'param_scheduler = [dict(end=10, by_epoch=False), dict(begin=10, end=100, by_epoch=False)]\n'
    )
    assert Point(str(leaf), ('iterations=50',)).options == [
        'param_scheduler.1.end=50',
        'train_cfg.max_iters=50',
    ]
    leaf.write_text('train_cfg = dict(max_epochs=9)\nparam_scheduler = dict(end=9)\n')
    assert Point(str(leaf), ('epochs=3',)).options == ['param_scheduler.end=3', 'train_cfg.max_epochs=3']


def test_points_are_told_apart_by_what_is_computed() -> None:
    leaf = 'quickstart/finetune_intern_vit_tiny_digits'
    assert Point(leaf).check() == Point(f'{leaf}.py').check() != Point(leaf, ('seed=3',)).check()
    with pytest.raises(ConfigError, match='model.backbone.depth: not an argument of InternViT'):
        Point(leaf, ('model.backbone.depth=1',)).check()
    with pytest.raises(ConfigError, match='a sweep needs config=NAME'):
        Point.parse(['+seed=1'])


def test_settings_that_vary() -> None:
    assert swept([dict(a=1, b=2), dict(a=1, b=3, c=4)]) == ['b', 'c']
    # The leaf tells as much as what it alone has, unless it has it in one point only.
    assert swept([dict(config='x', a=1), dict(config='y', b=1)]) == ['config']
    assert swept([dict(config='x', a=1), dict(config='y', b=1), dict(config='y')]) == ['config', 'b']
    assert swept([dict(config='x', a=1), dict(config='y', a=2)]) == ['config', 'a']
