"""The code in docs/chat_data.md runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

from internvl_mm.data.datasets import PackedChatDataset
from internvl_mm.evaluation.chat_check import FINDINGS
from internvl_mm.preprocess import CHAT_TEMPLATES
from internvl_mm.registry import DATASETS
from tests.chat_cases import TOKENIZERS, talk, write_image, write_jsonl


def text(repo: Path) -> str:
    return (repo / 'docs' / 'chat_data.md').read_text(encoding='utf-8')


def blocks(repo: Path, language: str) -> list[str]:
    return re.findall(rf'```{language}\n(.*?)```', text(repo), re.DOTALL)


def test_the_files_and_the_config_work(repo: Path, tmp_path: Path) -> None:
    meta, sample = (json.loads(block) for block in blocks(repo, 'json'))
    (tmp_path / 'images').mkdir()
    write_image(tmp_path / 'images' / '1.jpg')
    write_jsonl(tmp_path / 'charts.jsonl', [sample, dict(conversations=talk('Q', 'A'))])
    (tmp_path / 'meta.json').write_text(json.dumps(meta))
    names: dict = {}
    exec(blocks(repo, 'python')[0], names)  # noqa: S102
    config = names['train_dataloader']['dataset']
    config['dataset']['meta'] = str(tmp_path / 'meta.json')
    config['dataset']['encoder']['tokenizer'] = str(TOKENIZERS / 'tokenizer_internlm2')
    config['dataset']['encoder']['tiling'].update(size=28, max_num=1)
    packed = DATASETS.build(config)
    assert isinstance(packed, PackedChatDataset)
    assert len(packed.dataset) == 5  # 2 samples, 2.5 times
    assert len(packed[0]['inputs']) == 5


def test_the_prompt_is_rendered(repo: Path) -> None:
    names: dict = {}
    exec(blocks(repo, 'python')[1], names)  # noqa: S102
    assert names['prompt'].startswith(
        '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n<image>\nWhat'
    )


def test_it_names_every_template_and_finding(repo: Path) -> None:
    assert [name for name in CHAT_TEMPLATES if f'`{name}`' not in text(repo)] == []
    assert [kind for kind in FINDINGS if kind not in text(repo)] == []
