"""Greedy answers about pictures: one question, and eight of different lengths at once, against transformers' own class.

The gate: both give the same ids. Weights are equal (:func:`to_native` gives transformers the very tensors), prompts are
made beforehand and padded at the left for both; pixels to ids is what is timed. The model is random, of 23 M parameters
in the proportions of InternVL2-1B to 2B, with tiles of 224 pixels and 64 tokens each (a quarter of the published ones).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.chat_second_turn import build
from benchmarks.harness import Row, compare, interleave, processor_clock
from internvl_mm.models.convert.chat_native import to_native

CONTEXT, SIDE, NEW = 599, 224, 16
# Tiles of each question's picture, 0 for text alone; 20 tokens of text each. What is asked, its tiles, its goal.
CASES: tuple[tuple[str, tuple[int, ...], float], ...] = (
    ('1 question, 6 tiles', (6,), 1.0),
    ('8 questions, 0 to 13 tiles', (0, 1, 1, 3, 3, 5, 7, 13), 1.3),
    ('8 questions, 3 to 7 tiles', (3, 3, 4, 5, 5, 6, 7, 7), 1.3),
)


def prompts(tiles: tuple[int, ...], tokens_per_tile: int) -> dict[str, Tensor]:
    """Inputs of both: ids and mask ``[B, L]`` padded at the left, pixels of all tiles."""
    drawn = torch.Generator().manual_seed(0)
    text = torch.randint(3, 500, (len(tiles), 20), generator=drawn)
    rows = [
        torch.cat([words[:4], torch.full((count * tokens_per_tile,), CONTEXT), words[4:]])
        for words, count in zip(text, tiles, strict=True)
    ]
    longest = max(map(len, rows))
    ids = torch.stack([torch.cat([row.new_zeros(longest - len(row)), row]) for row in rows])
    mask = torch.stack([torch.arange(longest) >= longest - len(row) for row in rows]).long()
    pixels = torch.randn(sum(tiles), 3, SIDE, SIDE, generator=drawn)
    return dict(input_ids=ids, attention_mask=mask, pixel_values=pixels)


def answer(model: nn.Module, inputs: dict[str, Tensor], *, skip: int = 0) -> Tensor:
    """Greedy ids ``[B, NEW]``; ``skip`` leaves out the prompt where a class returns it."""
    settings = dict(max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, pad_token_id=0, eos_token_id=1)
    with torch.inference_mode():
        return model.generate(**inputs, **settings)[:, skip:]


def run(quick: bool) -> list[Row]:
    """One row per case."""
    torch.set_num_threads(1)
    model = build(SIDE)
    with torch.no_grad():
        for parameter in model.parameters():
            # Wide logits, so that no two tokens are as good as equal.
            parameter.add_(torch.randn(parameter.shape) * 0.02)
    model.img_context_token_id = CONTEXT
    native = to_native(model, CONTEXT)
    rows = []
    for what, tiles, goal in CASES:
        inputs = prompts(tiles, model.num_image_token)
        jobs: dict[str, Callable[[], Tensor]] = dict(
            ours=partial(answer, model, inputs),
            transformers=partial(answer, native, inputs, skip=inputs['input_ids'].shape[1]),
        )
        if not torch.equal(jobs['ours'](), jobs['transformers']()):
            raise AssertionError(f"{what}: ids differ from those of transformers' own class")
        # One question takes a second, a batch ten; the gate was the round to warm up.
        rounds = 9 if len(tiles) == 1 else 4
        seconds = interleave(jobs, rounds=2 if quick else rounds, warmup=0, clock=processor_clock)
        filled = inputs['attention_mask'].float().mean().item()
        rows.append(
            compare(
                what, seconds, 'transformers', goal=goal, note=f'{filled:.0%} of the padded prompts is text'
            )
        )
    return rows
