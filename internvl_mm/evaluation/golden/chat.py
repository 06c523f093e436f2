"""Golden cases of chat models: features, logits, loss, and the answers of whole conversations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer

from internvl_mm.models.chat_prompt import build_prompt
from internvl_mm.models.convert.files import read_json
from internvl_mm.models.hub import load_model
from internvl_mm.preprocess.chat_text import IMG_CONTEXT

from .comparison import Comparison

# What the answers were recorded with.
_GREEDY = dict(max_new_tokens=12, do_sample=False, num_beams=1)
_QUESTION = '<image>\nWhat is in the picture?'  # what the recorded prompt asks


def check_chat(folder: Path) -> Iterator[Comparison]:
    """Chat model: visual tokens, logits and loss with all tiles, the prompt, and every recorded answer."""
    model, golden = load_model(folder), load_file(folder / 'golden.safetensors')
    # use_fast=False as in the published examples, whose ids the fast tokenizer need not give.
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True, use_fast=False)
    model.img_context_token_id = tokenizer.convert_tokens_to_ids(IMG_CONTEXT)
    pixels = golden['pixel_values']
    # [tiles, tokens of a tile, width of the language model].
    yield 'vit_embeds', model.extract_feature(pixels), golden['vit_embeds']
    output = model(
        pixel_values=pixels,
        input_ids=golden['input_ids'],
        labels=golden['labels'],
        # 1 for every tile: 0 marks the dummy tile of a sample without pictures.
        image_flags=torch.ones(len(pixels), 1, dtype=torch.long),
    )
    yield 'logits', output.logits, golden['logits']  # [1, L, V]
    yield 'loss', output.loss.reshape(golden['loss'].shape), golden['loss']
    cases = read_json(folder / 'conversation.json')
    if 'prompt' in cases:
        tiles = [len(pixels)]
        prompt = build_prompt(
            model.conv_template,
            [(_QUESTION, None)],
            tiles,
            model.num_image_token,
            system_message=model.system_message,
        )
        yield 'prompt', prompt, cases['prompt']
    for key, ours in (('num_image_token', model.num_image_token), ('system_message', model.system_message)):
        if key in cases:
            yield key, ours, cases[key]
    yield from _answers(model, tokenizer, pixels, cases)


def _answers(model: Any, tokenizer: Any, pixels: Tensor, cases: dict[str, Any]) -> Iterator[Comparison]:
    for name, case in cases.items():
        # The prompt, num_image_token and system_message lie among the cases.
        if not isinstance(case, dict):
            continue
        settings = _GREEDY
        if 'num_beams' in case:
            settings = dict(max_new_tokens=8, do_sample=False, num_beams=case['num_beams'])
        tiles = case.get('tiles', sum(case.get('num_patches_list', ())))
        # [tiles, 3, H, W]; without tiles the conversation is text alone.
        given = pixels[:tiles] if tiles else None
        counts = case.get('num_patches_list')
        if 'turns' in case:
            history = None
            for number, (question, recorded) in enumerate(case['turns']):
                ours, history = model.chat(
                    tokenizer, given, question, settings, history=history, return_history=True
                )
                yield f'{name}_{number}', ours, recorded
        elif 'questions' in case:
            ours = model.batch_chat(tokenizer, given, case['questions'], settings, num_patches_list=counts)
            yield name, ours, case['answers']
        else:
            ours = model.chat(tokenizer, given, case['question'], settings, num_patches_list=counts)
            yield name, ours, case['answer']
