"""Finding and loading configs: what works, and every way it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from internvl_mm.engine.config import loading
from internvl_mm.engine.config.loading import load_config, set_option
from internvl_mm.models.backbones import InternViT
from internvl_mm.utils.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / 'data' / 'configs'
CONFIG = str(CONFIGS / 'model_only.py')


def write(folder: Path, text: str, name: str = 'leaf.py') -> str:
    """Write a config and return its path."""
    (folder / name).write_text(text)
    return str(folder / name)


def refused(path: str, *overrides: str) -> str:
    """The message a config is refused with."""
    with pytest.raises(ConfigError) as error:
        load_config(path, overrides)
    return str(error.value)


def test_inherits_and_resolves() -> None:
    cfg = load_config(CONFIG)
    assert cfg.model.backbone.type is InternViT
    assert cfg.randomness.seed == 0  # from the parent
    assert cfg.model.backbone.intermediate_size == 16  # from a helper name
    assert not {'_width', 'InternViT', 'read_base'} & set(cfg.keys())  # helpers are no settings
    assert cfg.filename == CONFIG


def test_dump_loads_again(tmp_path: Path) -> None:
    cfg = load_config(CONFIG)
    again = load_config(write(tmp_path, cfg.pretty_text))
    assert again.to_dict() == cfg.to_dict()


def test_overrides_reach_dicts_and_lists() -> None:
    options = [
        'model.backbone.frozen=all',
        'param_scheduler.0.end=7',
        'optim_wrapper.optimizer.betas=(0.8,0.9)',
    ]
    cfg = load_config(CONFIG, options)
    assert cfg.model.backbone.frozen == 'all'
    assert cfg.param_scheduler[0].end == 7
    assert cfg.optim_wrapper.optimizer.betas == (0.8, 0.9)


def test_set_option_keeps_settings_for_none() -> None:
    cfg = load_config(CONFIG)
    set_option(cfg, 'randomness.seed', None)
    set_option(cfg, 'model.head.num_classes', 3)
    assert (cfg.randomness.seed, cfg.model.head.num_classes) == (0, 3)


def test_finds_shipped_configs_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'probes').mkdir()
    write(tmp_path / 'probes', 'model = dict()', name='linear.py')
    monkeypatch.setattr(loading, 'config_root', lambda: tmp_path)
    assert load_config('probes/linear.py').filename == load_config('probes/linear').filename
    assert "Did you mean 'probes/linear.py'?" in refused('probes/linaer.py')
    assert "Did you mean 'probes/linear.py'?" in refused('linear')


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('model = dict(\n', ":1: '(' was never closed"),
        ("_base_ = ['x.py']\n", 'from .._base_.runtime import *'),
        ('model = dict(a=nowhere)\n', ":1: NameError: name 'nowhere' is not defined"),
        ('import math\nwidth = math.sqrt(-1)\n', ':2: ValueError'),
        (
            'from torch.optim import AdamW\noptimizer = AdamW(lr=1)\n',
            ':2: a config names classes and does not call',
        ),
        (
            'from torch.optim import AdamV\nx = dict(type=AdamV)\n',
            ":1: x.type: 'AdamV' is not in torch.optim.",
        ),
        ('from torch.optim import AdamV\nx = dict(type=AdamV)\n', 'Did you mean'),
        (
            'from torch.optin import AdamW\nx = dict(type=AdamW)\n',
            "no module 'optin' in torch. Did you mean 'optim'?",
        ),
        ('from torhc import nn\nx = dict(type=nn)\n', ":1: x.type: there is no module 'torhc'."),
        (
            'import torch\nx = dict(type=torch.optim.Adamm)\n',
            "'Adamm' is not in torch.optim. Did you mean 'Adam",
        ),
        ('from torch.nn import ReLU\nx = [ReLU]\n', 'write dict(type=ReLU)'),
        ('filename = 3\n', 'filename is reserved'),
    ],
)
def test_broken_files(tmp_path: Path, text: str, message: str) -> None:
    told = refused(write(tmp_path, text))
    assert message in told
    assert 'leaf.py' in told


@pytest.mark.parametrize(
    ('statement', 'message'),
    [
        ('from ._base_.runtme import *', "_base_/runtme.py does not exist. Did you mean 'runtime'?"),
        ('from ._base_.runtime import randomnes', "'randomnes' is not defined in"),
        ('import json', "only 'from <parent config> import ...' is allowed"),
        ('from ._base_.broken import *', 'broken.py:2: ZeroDivisionError'),
        ('from ._base_.unclosed import *', "unclosed.py:1: '(' was never closed"),
        ('from nowhere.configs import *', 'nowhere'),
    ],
)
def test_broken_parents(tmp_path: Path, statement: str, message: str) -> None:
    (tmp_path / '_base_').mkdir()
    write(tmp_path / '_base_', 'randomness = dict(seed=0)\n', 'runtime.py')
    write(tmp_path / '_base_', '\nx = 1 / 0\n', 'broken.py')
    write(tmp_path / '_base_', 'x = dict(\n', 'unclosed.py')
    header = 'from mmengine.config import read_base\nwith read_base():\n    '
    assert message in refused(write(tmp_path, f'{header}{statement}\n'))


def test_parents_that_are_their_own_children(tmp_path: Path) -> None:
    header = 'from mmengine.config import read_base\nwith read_base():\n    '
    write(tmp_path, f'{header}from .leaf import *\n', 'other.py')
    told = refused(write(tmp_path, f'{header}from .other import *\n'))
    assert 'configs inherit from each other' in told and told.count('leaf.py') >= 2 and 'other.py' in told


def test_files_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / 'leaf.py').write_bytes("name = 'Größe'\n".encode('latin-1'))
    assert 'is no UTF-8 text' in refused(str(tmp_path / 'leaf.py'))


def test_functions_of_a_parent_can_be_named(tmp_path: Path) -> None:
    write(tmp_path, 'def twice(x):\n    inside = 2 * x\n    return inside\n', 'tools.py')
    header = 'from mmengine.config import read_base\nwith read_base():\n    '
    leaf = write(tmp_path, f'{header}from .tools import twice\nrandomness = dict(seed=twice(3))\n')
    assert load_config(str(leaf)).randomness.seed == 6
    assert "'inside' is not defined" in refused(write(tmp_path, f'{header}from .tools import inside\n'))


def test_what_a_module_misses_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 'import nowhere_to_be_found\n', 'guest_module_with_needs.py')
    monkeypatch.syspath_prepend(str(tmp_path))
    told = refused(write(tmp_path, 'from guest_module_with_needs import Part\nmodel = dict(type=Part)\n'))
    assert "importing guest_module_with_needs failed: there is no module 'nowhere_to_be_found'" in told


def test_module_that_fails_to_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "raise RuntimeError('no licence')\n", 'guest_module_that_fails.py')
    monkeypatch.syspath_prepend(str(tmp_path))
    told = refused(write(tmp_path, 'from guest_module_that_fails import Part\nmodel = dict(type=Part)\n'))
    assert 'leaf.py:1: model.type: importing guest_module_that_fails failed' in told
    assert 'no licence' in told


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('model', 'is not of the form key=value'),
        ('model..head=1', 'is not of the form key=value'),
        ('=1', 'is not of the form key=value'),
        ('log_level=[1,2', 'the value cannot be read'),
        ('custom_hooks=[dict(type=EMAHook,decay=0.5)]', 'set what a dict holds key by key'),
        ('randomness.seed.x=1', 'randomness.seed is 0, which has no'),
        ('param_scheduler.5.end=1', "param_scheduler is a list of 1: '5' must be an index from 0"),
        ('param_scheduler.end=1', "'end' must be an index from 0"),
        ('param_scheduler.0=1', 'param_scheduler.0 holds ConfigDict'),
    ],
)
def test_broken_overrides(option: str, message: str) -> None:
    told = refused(CONFIG, option)
    assert message in told
    assert f"'{option}'" in told


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('my folder/a.pth', 'my folder/a.pth'),
        ('"my folder/a.pth"', 'my folder/a.pth'),
        ('[1, 2]', [1, 2]),
        ('a, b', ['a', 'b']),
        (' 3 ', 3),
        (' false', False),
        (' None', None),
        (' a b ', 'a b'),
        ('my folder (1)/a.pth', 'my folder (1)/a.pth'),
        ('["two words", "x y"]', ['two words', 'x y']),
        ('[ two words ,x, 3 ]', ['two words', 'x', 3]),
        ('two words, x y', ['two words', 'x y']),
        ('( [a b, c] , "d  e", (1, 2) )', (['a b', 'c'], 'd  e', (1, 2))),
        ('" 3 "', 3),
        ('1e-4', 1e-4),
        ('None', None),
        ('false', False),
    ],
)
def test_values_of_overrides(text: str, value: object) -> None:
    assert load_config(CONFIG, [f'load_from={text}']).load_from == value


def test_other_files_are_no_configs(tmp_path: Path) -> None:
    assert 'configs are Python files' in refused(write(tmp_path, 'a: 1', 'config.yaml'))
