"""The code in docs/add_a_backbone.md and docs/add_a_head.md runs, and its classes meet the contracts they describe."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from internvl_mm.registry import MODELS
from tests import test_contracts as contracts


def run_block(repo: Path, number: int, page: str = 'add_a_backbone.md') -> dict:
    text = (repo / 'docs' / page).read_text(encoding='utf-8')
    names: dict = {'__name__': 'docs'}
    exec(re.findall(r'```python\n(.*?)```', text, re.DOTALL)[number], names)  # noqa: S102
    return names


def test_the_config_builds(repo: Path) -> None:
    config = run_block(repo, 0)['backbone']
    with torch.device('meta'):
        assert MODELS.build(config).width == 384


def test_the_adapter_builds(repo: Path) -> None:
    adapter = run_block(repo, 2)['adapter']
    with torch.device('meta'):
        maps = MODELS.build(adapter)(torch.empty(1, 3, 64, 96)).maps
    assert [tuple(map_.shape[1:]) for map_ in maps] == [(384, 64 // s, 96 // s) for s in (4, 8, 16, 32)]


def test_the_class_meets_the_contract(repo: Path) -> None:
    try:
        backbone = run_block(repo, 1)['TimmViT']
        text = (repo / 'docs' / 'add_a_backbone.md').read_text(encoding='utf-8')
        case = (backbone, eval(re.search(r'`TimmViT: (dict\(.*\))`', text)[1]))  # noqa: S307
        checks = [check for name, check in vars(contracts).items() if name.startswith('test_backbone_')]
        assert len(checks) == 5
        for check in checks:
            check(case)
    finally:
        MODELS.module_dict.pop('TimmViT', None)


@pytest.mark.parametrize('member', ['layer_id', 'freeze', 'resize_positions', 'init_weights', 'load_weights'])
def test_the_table_names_real_members(repo: Path, member: str) -> None:
    assert hasattr(contracts.BaseBackbone, member)
    assert f'| `{member}(' in (repo / 'docs' / 'add_a_backbone.md').read_text(encoding='utf-8')


def case_of(repo: Path, name: str) -> dict:
    """The tiny case the page gives for a class."""
    text = (repo / 'docs' / 'add_a_head.md').read_text(encoding='utf-8')
    return eval(re.search(rf'`{name}: (dict\(.*?\))`', text)[1])  # noqa: S307


def test_the_segmentation_config_builds_and_trains_its_head_alone(repo: Path) -> None:
    with torch.device('meta'):
        task = MODELS.build(run_block(repo, 0, 'add_a_head.md')['model'])
        maps = task.extract(torch.empty(1, 3, 56, 56))
        assert task.decode_head(maps).shape == (1, 11, 16, 16)
    trained = {name.split('.')[0] for name, p in task.named_parameters() if p.requires_grad}
    assert trained == {'neck', 'decode_head'}


@pytest.mark.parametrize(
    ('block', 'name', 'check'),
    [
        (1, 'SumHead', contracts.test_dense_head_gives_a_finite_loss_also_without_any_label),
        (2, 'SubPixelNeck', contracts.test_neck_gives_maps_of_the_strides_it_says),
    ],
)
def test_head_and_neck_meet_their_contracts(
    monkeypatch: pytest.MonkeyPatch, repo: Path, block: int, name: str, check
) -> None:
    # Registered for this test alone: projects/example has a class of the same name.
    others = {key: part for key, part in MODELS.module_dict.items() if key != name}
    monkeypatch.setattr(MODELS, '_module_dict', others)
    check((run_block(repo, block, 'add_a_head.md')[name], case_of(repo, name)))
