"""The code in docs/chat.md and docs/add_an_llm.md runs."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from internvl_mm.models.chat_model import ChatModel
from internvl_mm.models.language import FAMILIES
from internvl_mm.registry import MODELS


def blocks(repo: Path, page: str) -> list[str]:
    return re.findall(r'```python\n(.*?)```', (repo / 'docs' / page).read_text(encoding='utf-8'), re.DOTALL)


def test_the_chat_guide_runs(repo: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(repo)
    names: dict = {'__name__': 'docs'}
    for block in blocks(repo, 'chat.md'):
        exec(block, names)  # noqa: S102
    assert len(names['responses']) == 2
    assert names['history'][0][0] == '<image>\nWhat is it?'
    assert [question for question, _ in names['session'].history] == ['<image>\nWhat is it?', 'And then?']


def test_the_parts_of_the_language_model_page_build(repo: Path) -> None:
    language, chat, family = blocks(repo, 'add_an_llm.md')
    assert sum(bool(line.strip()) for line in language.splitlines()) <= 15
    names: dict = {}
    for block in (language, chat):
        exec(block, names)  # noqa: S102
    with torch.device('meta'):
        assert MODELS.build(names['language_model']).config.num_hidden_layers == 28
        assert isinstance(MODELS.build(names['model']), ChatModel)
    try:
        exec(family, names)  # noqa: S102
        assert 'MistralForCausalLM' in FAMILIES
    finally:
        FAMILIES.pop('MistralForCausalLM', None)
