"""Second turn about a picture of 6 tiles: a session that remembers against reading the conversation again.

The gate: both give the same answer. The peer is our own ``model.chat`` with the history, which computes what the
published one does: the vision tower and the whole prompt in every turn. The model is random, of 23 M parameters, with
tiles of 448 pixels and 256 tokens each.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import torch
from transformers import AutoTokenizer

from benchmarks.harness import Row, compare, interleave, processor_clock
from internvl_mm.models.hf_internvl_chat import InternVLChatConfig, InternVLChatModel
from internvl_mm.serving.chat_session import ChatSession

TOKENIZER = Path(__file__).resolve().parents[1] / 'tests' / 'data' / 'golden' / 'chat_qwen2_tiny'
TILES = 6
GOAL = 3.0


def build(image_size: int = 448) -> InternVLChatModel:
    """A random model in the proportions of InternVL2-1B; ``image_size`` is the side of a tile."""
    torch.manual_seed(0)
    vision = dict(
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=6,
        num_attention_heads=4,
        image_size=image_size,
        norm_type='layer_norm',
        qk_normalization=False,
        qkv_bias=True,
    )
    language = dict(
        architectures=['Qwen2ForCausalLM'],
        vocab_size=600,
        hidden_size=384,
        intermediate_size=1536,
        num_hidden_layers=8,
        num_attention_heads=6,
        num_key_value_heads=2,
    )
    config = InternVLChatConfig(
        vision_config=vision, llm_config=language, template='Hermes-2', ps_version='v2'
    )
    return InternVLChatModel(config).eval()


def run(quick: bool) -> list[Row]:
    """Measure the second turn with answers of 1 and of 16 tokens."""
    torch.set_num_threads(1)
    model, tokenizer = build(), AutoTokenizer.from_pretrained(TOKENIZER)
    tiles = torch.randn(TILES, 3, 448, 448)
    rows = []
    for length in (1, 16):
        settings = dict(max_new_tokens=length, min_new_tokens=length, do_sample=False)
        session = ChatSession(model, tokenizer, settings=settings)
        session.ask('What is in the picture?', [tiles])
        first = list(session.history)
        # Another question in every round, so that no round finds its own answer in the cache.
        numbers = itertools.count()

        def ours(
            session: ChatSession = session, first: list = first, numbers: itertools.count = numbers
        ) -> str:
            session.history = list(first)
            return session.ask(f'{next(numbers)} of what?')

        def again(first: list = first, numbers: itertools.count = numbers, settings: dict = settings) -> str:
            return model.chat(tokenizer, tiles, f'{next(numbers)} of what?', settings, history=first)

        expected = model.chat(tokenizer, tiles, '0 of what?', settings, history=first)
        if ours() != expected:
            raise AssertionError('the session answers otherwise')
        seconds = interleave(
            {'ours': ours, 'recomputed': again}, rounds=3 if quick else 9, warmup=1, clock=processor_clock
        )
        note = f'{session.reused} tokens reused'
        rows.append(compare(f'answer of {length} tokens', seconds, 'recomputed', goal=GOAL, note=note))
    return rows
