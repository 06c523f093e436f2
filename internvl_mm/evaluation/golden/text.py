"""Golden cases of prompts, tiling grids, and training tokens with their labels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from internvl_mm.data.chat_records import parse_messages
from internvl_mm.preprocess.chat_published import encode_published
from internvl_mm.preprocess.conversation import chat_template
from internvl_mm.preprocess.tiling import choose_grid

from .comparison import Comparison


def check_text(folder: Path) -> Iterator[Comparison]:
    """Prompts of every template, the grid of every picture size, and ids and labels of every training sample."""
    recorded = json.loads((folder / 'text_and_tiling.json').read_text(encoding='utf-8'))
    # Taken out one after the other: what is left at the end are training cases.
    for name, prompt in recorded.pop('prompts', {}).items():
        template = chat_template(name)
        ours = dict(
            system=template.system_message,
            # The recorded exchanges: one with an answer, one that waits for it.
            prompt=template.render([('Q1', 'A1'), ('Q2', None)]),
            sep=template.sep,
        )
        yield f'prompts/{name}', ours, prompt
    # grid: columns, rows.
    for width, height, max_num, *grid in recorded.pop('tiling', []):
        chosen = choose_grid(width, height, max_num=max_num)
        yield f'tiling/{width}x{height}/{max_num}', list(chosen), grid
    for name, case in recorded.items():
        yield from _check_training(folder, name, case)


def _check_training(folder: Path, name: str, case: dict[str, Any]) -> Iterator[Comparison]:
    tokenizer = AutoTokenizer.from_pretrained(folder / _tokenizer(folder, name))
    template = chat_template(case['template'])
    for number, sample in enumerate(case['samples']):
        system, turns = parse_messages(sample['conversation'])
        own = template if system is None else replace(template, system_message=system)
        images = sample['num_image_tokens']
        encoded = encode_published(tokenizer, own, turns, images, tokenizer.model_max_length)
        yield f'{name}/{number}/input_ids', encoded.input_ids.tolist(), sample['input_ids']
        yield f'{name}/{number}/labels', encoded.labels.tolist(), sample['labels']


def _tokenizer(folder: Path, name: str) -> str:
    """Cases were recorded with two tokenizers: InternLM2's for its template, Qwen2's for the others."""
    own = 'tokenizer_internlm2' if name.startswith('internlm2') else f'tokenizer_{name}'
    return own if (folder / own).is_dir() else 'tokenizer_qwen2'
