"""Every shipped config: it loads, is right in every setting, says what a reader needs, and its model can be built."""

from __future__ import annotations

import ast
import random
import re
from pathlib import Path

import pytest
import torch
from sentencepiece import SentencePieceTrainer

from internvl_mm.engine.config import check_config, config_root, load_config
from internvl_mm.engine.config.checking import resolve
from internvl_mm.registry import MODELS
from tests.mutations import assert_told, mutations

ROOT = config_root()
LEAVES = sorted(
    str(file.relative_to(ROOT))
    for file in ROOT.rglob('*.py')
    if '_base_' not in file.parts and file.name != '__init__.py'
)


def header(config: str) -> str:
    """The docstring of a config."""
    return ast.get_docstring(ast.parse((ROOT / config).read_text(encoding='utf-8'))) or ''


def test_there_are_configs() -> None:
    assert len(LEAVES) >= 10


@pytest.mark.parametrize('config', LEAVES)
def test_loads_and_is_right(config: str) -> None:
    settings = load_config(config)
    check_config(settings, purpose='read')
    # A loop stops at a sampler of the other kind when it is made, which nobody sees before the first run.
    loop, loader = (settings.to_dict().get(part, {}) for part in ('train_cfg', 'train_dataloader'))
    endless = str(loader.get('sampler', {}).get('type')).endswith('StreamSampler')
    assert endless == str(loop.get('type')).endswith('IterTrainLoop')


@pytest.mark.parametrize('config', LEAVES)
def test_header_says_what_a_reader_needs(config: str) -> None:
    text = header(config)
    what, _, rest = text.partition('\n')
    assert what.endswith('.'), 'the first line says what it is'
    assert config in rest and re.search(r'^Command: .*(tools/\w+\.py|internvl-mm)', rest, re.M), (
        'the exact command'
    )
    assert re.search(r'^Hardware: \S', rest, re.M), 'what it runs on'
    expected = re.search(r'^Expected[^:\n]*: (.+?)(?=^\w+: |\Z)', rest, re.M | re.S)
    assert expected, 'the expected number, or that there is none'
    assert re.search(r'paper|log|measured|published|not run', text), 'where the number comes from'


@pytest.mark.parametrize('config', LEAVES)
def test_a_leaf_is_a_difference(config: str) -> None:
    source = (ROOT / config).read_text(encoding='utf-8')
    body = source.split('"""', 2)[2]
    assert sum(bool(line.strip()) for line in body.splitlines()) <= 30
    for node in ast.walk(ast.parse(source)):
        tricks = (ast.FunctionDef, ast.Lambda, ast.ListComp, ast.DictComp, ast.GeneratorExp, ast.For, ast.If)
        assert not isinstance(node, tricks), (
            f'line {node.lineno}: a config states settings, it does not compute them'
        )


# Bases a leaf of the user's adds: other strategies and trackers, published chat models, and a backbone of the sweep's.
FOR_USERS = (
    '_base_/strategies/',
    '_base_/tracking/',
    '_base_/models/chat/',
    '_base_/models/intern_vit_small.py',
)


@pytest.mark.parametrize('config', [config for config in LEAVES if 'ablations' in Path(config).parts])
def test_an_ablation_differs_in_what_its_name_says_and_trains_as_long(config: str) -> None:
    folder, name = (ROOT / config).parent.parent, Path(config).stem
    # The longest: a parent's name may itself begin with another leaf's.
    parent = max((file for file in folder.glob('*.py') if name.startswith(f'{file.stem}_')), key=str)
    settings = (ROOT / config).read_text('utf-8').rpartition('import *')[2].strip()
    assert 1 <= len(settings.splitlines()) <= 12
    ablated, whole = load_config(config), load_config(str(parent))
    assert ablated.to_dict() != whole.to_dict()
    for key in ('train_cfg', 'optim_wrapper', 'param_scheduler', 'randomness', 'default_hooks'):
        assert ablated[key] == whole[key], 'runs are compared at an equal budget'


def parents(file: Path) -> set[Path]:
    """The configs a config imports."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = file.parents[node.level - 1]
            found.add(folder.joinpath(*(node.module or '').split('.')).with_suffix('.py'))
    return found


def test_every_base_is_used_by_a_leaf() -> None:
    bases = {str(file.relative_to(ROOT)): file for file in (ROOT / '_base_').rglob('*.py')}
    used = {ROOT / config for config in LEAVES}
    used |= {file for name, file in bases.items() if name.startswith(FOR_USERS)}
    while more := {parent for file in used for parent in parents(file)} - used:
        used |= more
    unused = [name for name, file in bases.items() if file not in used and file.name != '__init__.py']
    assert unused == [], 'a base that no leaf reads is never run: use it or remove it'


def test_every_model_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The one file that is read on building; any vocabulary stands for the published one.
    for name in ('chinese-alpaca-7b', 'InternVL-14B-224px'):
        folder = tmp_path / 'pretrained' / name
        folder.mkdir(parents=True)
        SentencePieceTrainer.train(
            sentence_iterator=iter(['a red seven', 'two digits']),
            model_prefix=str(folder / 'tokenizer'),
            vocab_size=24,
            hard_vocab_limit=False,
            minloglevel=2,
        )
    monkeypatch.chdir(tmp_path)
    built = {}
    for config in LEAVES:
        settings = load_config(str(ROOT / config)).get('model')
        key = str(settings)
        if settings is not None and key not in built:
            with torch.device('meta'):  # no memory: some have billions of parameters
                built[key] = MODELS.build(settings)
            assert sum(parameter.numel() for parameter in built[key].parameters()) > 0
            built[key] = True
    assert built


@pytest.mark.parametrize('config', LEAVES)
def test_random_mistakes_are_told(config: str) -> None:
    for mistake in mutations(resolve(load_config(config)._to_lazy_dict()), random.Random(config), 40):
        assert_told(mistake)
