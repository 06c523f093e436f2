"""Batches that are read without their padding give the tokens and cache of those that are read with it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache, GenerationConfig

from internvl_mm.models.packed_prefill import can_pack, positions_move, prefill_packed
from tests.test_models.tiny_chat import FAMILY_CASES, GREEDY, pixels, tiny_model, tokenizer_of

LENGTHS = (12, 3, 30)


def left_padded(width: int) -> tuple[Tensor, Tensor]:
    """Random embeddings of prompts of those lengths, padded at the left, and their mask."""
    longest = max(LENGTHS)
    mask = torch.tensor([[0] * (longest - length) + [1] * length for length in LENGTHS])
    return torch.randn(len(LENGTHS), longest, width, generator=torch.Generator().manual_seed(0)), mask


@pytest.mark.parametrize(
    ('architecture', 'window'),
    [*((name, None) for name in FAMILY_CASES), ('Phi3ForCausalLM', 5), ('Qwen2ForCausalLM', 5)],
)
def test_keys_values_and_answers_are_those_of_padded_prompts(architecture: str, window: int | None) -> None:
    settings = dict(sliding_window=window, use_sliding_window=True, max_window_layers=0) if window else {}
    language = tiny_model(architecture, llm=settings).language_model
    embeddings, mask = left_padded(language.config.hidden_size)
    arguments = dict(
        inputs_embeds=embeddings, attention_mask=mask, **GREEDY, pad_token_id=0, eos_token_id=599
    )
    expected = language.generate(**arguments)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    with torch.no_grad():
        padded = language.model(
            inputs_embeds=embeddings[:, :-1],
            attention_mask=mask[:, :-1],
            position_ids=positions[:, :-1],
            past_key_values=DynamicCache(),
            use_cache=True,
        ).past_key_values
    packed = prefill_packed(language, embeddings, mask)
    for mine, theirs in zip(packed.layers, padded.layers, strict=True):
        for own, other in ((mine.keys, theirs.keys), (mine.values, theirs.values)):
            seen = mask[:, None, :-1, None].bool()
            torch.testing.assert_close(own, other * seen, atol=1e-5, rtol=1e-4)
    assert torch.equal(language.generate(**arguments, past_key_values=packed), expected)


def test_a_batch_is_read_without_its_padding(monkeypatch) -> None:
    model, tokenizer = tiny_model(), tokenizer_of()
    shapes: list[tuple[int, ...]] = []
    forward = model.language_model.model.forward

    def counted(*args: Any, **settings: Any) -> Any:
        shapes.append(
            tuple(settings['inputs_embeds'].shape[:2]) if settings.get('inputs_embeds') is not None else ()
        )
        return forward(*args, **settings)

    monkeypatch.setattr(model.language_model.model, 'forward', counted)
    questions = ['Short?', '<image>\nA rather longer question, which needs no padding?']
    model.batch_chat(tokenizer, pixels(2), questions, GREEDY, num_patches_list=[[], [2]])
    encoder = model.text_encoder(tokenizer, model.system_message)
    sizes = [
        len(encoder.prompt([(q, None)], n)) for q, n in zip(questions, ([], [2 * model.num_image_token]))
    ]
    assert shapes[:2] == [(1, sum(sizes) - 2), (2, 1)], 'all but two tokens in one row, then the last ones'


@pytest.mark.parametrize(
    ('settings', 'config', 'packs'),
    [
        (dict(max_new_tokens=3, do_sample=True), None, True),
        (dict(num_beams=1), GenerationConfig(max_new_tokens=3), True),
        (dict(num_beams=2), None, False),
        (dict(), GenerationConfig(num_beams=2), False),
        (dict(num_beams=1), GenerationConfig(num_beams=2), True),
        (dict(output_hidden_states=True), None, False),
        (dict(cache_implementation='static'), None, False),
        (dict(past_key_values=DynamicCache()), None, False),
    ],
)
def test_what_needs_padded_prompts_gets_them(settings: dict, config: Any, packs: bool) -> None:
    language, (_, mask) = tiny_model().language_model, left_padded(32)
    assert can_pack(language, mask, settings, config) is packs


def test_masks_and_models_that_are_not_packed() -> None:
    language, (_, mask) = tiny_model().language_model, left_padded(32)
    assert not can_pack(language, None, {}, None)
    assert not can_pack(language, torch.ones_like(mask), {}, None), 'nothing to save'
    assert not can_pack(language, mask.flip(1), {}, None), 'padding at the right'
    assert not can_pack(language, torch.tensor([[0, 1], [0, 1]]), {}, None), 'nothing to read'
    assert can_pack(language, torch.tensor([[0, 1], [1, 1]]), {}, None)
    moving = tiny_model(llm=dict(max_position_embeddings=20, rope_scaling=dict(type='dynamic', factor=2.0)))
    assert positions_move(moving.language_model.config, 21) and not positions_move(language.config, 10**6)
    assert not can_pack(moving.language_model, mask, {}, None)
    language.set_attn_implementation('eager')
    assert not can_pack(language, mask, {}, None)


def test_beams_and_long_dynamic_texts_answer_in_batches_as_before() -> None:
    tokenizer, questions = tokenizer_of(), ['What?', "A longer question, isn't it?"]
    for model, changes in (
        (tiny_model(), dict(num_beams=2)),
        (tiny_model(llm=dict(max_position_embeddings=20, rope_scaling=dict(type='dynamic', factor=2.0))), {}),
    ):
        answers = model.batch_chat(tokenizer, None, questions, {**GREEDY, **changes})
        assert answers[1] == model.chat(tokenizer, None, questions[1], {**GREEDY, **changes})
