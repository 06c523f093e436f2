"""The code in docs/add_a_backbone.md runs, and its class meets the contract it describes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from internvl_mm.registry import MODELS
from tests import test_contracts as contracts


def run_block(repo: Path, number: int) -> dict:
    text = (repo / 'docs' / 'add_a_backbone.md').read_text(encoding='utf-8')
    names: dict = {'__name__': 'docs'}
    exec(re.findall(r'```python\n(.*?)```', text, re.DOTALL)[number], names)  # noqa: S102
    return names


def test_the_config_builds(repo: Path) -> None:
    config = run_block(repo, 0)['backbone']
    with torch.device('meta'):
        assert MODELS.build(config).width == 384


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


@pytest.mark.parametrize('member', ['layer_id', 'freeze', 'resize_positions', 'init_weights'])
def test_the_table_names_real_members(repo: Path, member: str) -> None:
    assert hasattr(contracts.BaseBackbone, member)
    assert f'| `{member}(' in (repo / 'docs' / 'add_a_backbone.md').read_text(encoding='utf-8')
