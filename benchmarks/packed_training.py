"""Useful tokens per second of chat fine-tuning on packed rows against rows padded to the longest of their batch.

Forward and backward pass of the same conversations by the same weights: packed as our planner packs them, padded in
random batches of 8 and 4 as the published recipes draw them, and padded in batches of similar length. Pictures and
texts have a sixteenth of the published tokens (16 per tile, packs of 1,024 tokens and 48 tiles); the vision tower is
frozen and a seventh of the language model, as in the second fine-tuning of InternVL2-2B. Text alone has a quarter of
the published tokens. The gate: the losses of all conversations together agree within 1e-5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from transformers import AutoTokenizer

from benchmarks.chat_second_turn import TOKENIZER
from benchmarks.harness import Row, compare, interleave, processor_clock
from internvl_mm.data.collate_chat import collate_chat, collate_packed
from internvl_mm.data.packing import plan_packs
from internvl_mm.models.backbones import InternViT
from internvl_mm.models.chat_model import ChatModel
from internvl_mm.models.connectors import PixelShuffleMlp
from internvl_mm.models.language.part import LanguageModel
from internvl_mm.models.tasks.chat_tuning import ChatTuning
from internvl_mm.models.tuning import PartTuning
from internvl_mm.structures import IGNORE, ChatBatch, ChatSample

SIDE, TOKENS_PER_TILE, MAX_TOKENS, MAX_TILES = 112, 16, 1024, 48
SAMPLES = 144
# What is asked to chances of a number of tiles, and by how much texts are shortened.
TILES = (0, 1, 3, 5, 7, 9, 13)
CASES: dict[str, tuple[tuple[float, ...], int]] = {
    'pictures and text': ((0.25, 0.1, 0.15, 0.15, 0.15, 0.1, 0.1), 16),
    'text alone': ((1.0, 0, 0, 0, 0, 0, 0), 4),
}
VISION = dict(hidden_size=128, intermediate_size=512, num_hidden_layers=4, num_attention_heads=2)
LANGUAGE = dict(
    architectures=['Qwen2ForCausalLM'],
    vocab_size=600,
    hidden_size=256,
    intermediate_size=1024,
    num_hidden_layers=6,
    num_attention_heads=4,
    num_key_value_heads=2,
)
# Peer, its batch size (0 for groups of similar length, of 8), the goal against it.
PEERS = (('padded, 8 at random', 8, 2.0), ('padded, 4 at random', 4, 2.0), ('padded, 8 alike', 0, 1.0))


def build() -> ChatTuning:
    """A task with random weights."""
    torch.manual_seed(0)
    norms = dict(norm_type='layer_norm', qk_normalization=False, qkv_bias=True)
    chat = ChatModel(
        vision=dict(type=InternViT, image_size=SIDE, **VISION, **norms),
        connector=dict(type=PixelShuffleMlp),
        language_model=dict(type=LanguageModel, llm_config=LANGUAGE),
        template='Hermes-2',
    )
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    task = ChatTuning(chat=chat, tokenizer=tokenizer, vision=PartTuning(train='none'))
    task.init_weights()
    return task.train()


def conversations(task: ChatTuning, count: int, chances: Sequence[float], shorter: int) -> list[ChatSample]:
    """Text of lognormal length with pictures of some tiles, as :mod:`packing_plan` draws them."""
    rng, samples = np.random.default_rng(0), []
    context = task.chat.img_context_token_id
    for number in range(count):
        tiles = int(rng.choice(TILES, p=chances))
        length = int(np.clip(rng.lognormal(5, 1), 64, 3500) / shorter)
        words = torch.from_numpy(rng.integers(3, 400, length))
        words += words == context  # no picture where there is none
        ids = torch.cat([torch.full((tiles * TOKENS_PER_TILE,), context), words])
        labels = ids.clone()
        labels[: len(ids) - length // 2] = IGNORE
        pixels = torch.zeros(tiles, 3, SIDE, SIDE, dtype=torch.uint8)
        samples.append(ChatSample(pixels, (tiles,) if tiles else (), ids, labels, index=number))
    return samples


def packed(samples: Sequence[ChatSample]) -> tuple[list[ChatBatch], float]:
    """One row per pack, and how full the packs are."""
    sizes = np.array([[len(sample), len(sample.tiles)] for sample in samples])
    plan = plan_packs(sizes, max_tokens=MAX_TOKENS, max_tiles=MAX_TILES)
    items = [dict(inputs=[samples[member] for member in plan[number]]) for number in range(len(plan))]
    return [_ready(collate_packed([item])['inputs']) for item in items], plan.fill


def padded(samples: Sequence[ChatSample], size: int) -> list[ChatBatch]:
    """Rows padded to the longest of their batch; ``size`` 0 sorts by length first."""
    ordered = list(samples) if size else sorted(samples, key=len)
    step = size or 8
    groups = [ordered[start : start + step] for start in range(0, len(ordered), step)]
    return [_ready(collate_chat([dict(inputs=sample) for sample in group])['inputs']) for group in groups]


def _ready(batch: ChatBatch) -> ChatBatch:
    return ChatBatch(**{**vars(batch), 'tiles': batch.tiles.float()})


def epoch(task: ChatTuning, batches: Sequence[ChatBatch]) -> Tensor:
    """Forward and backward of all batches; returns the mean loss of all learned tokens."""
    total, learned = torch.zeros(()), 0.0
    for batch in batches:
        losses = task.loss(batch, [None] * len(batch))
        losses['loss'].backward()
        total += losses['loss'].detach() * losses['tokens']
        learned += losses['tokens'].item()
    task.zero_grad(set_to_none=True)
    return total / learned


def run(quick: bool) -> list[Row]:
    """One row per kind of data and way of padding."""
    torch.set_num_threads(1)
    task, found = build(), []
    for kind, settings in CASES.items():
        samples = conversations(task, SAMPLES // 4 if quick else SAMPLES, *settings)
        rows, fill = packed(samples)
        batches = {'ours': rows, **{name: padded(samples, size) for name, size, _ in PEERS}}
        losses = {name: epoch(task, part).item() for name, part in batches.items()}
        if max(losses.values()) - min(losses.values()) > 1e-5:
            raise AssertionError(f'losses differ: {losses}')
        jobs: dict[str, Callable[[], Tensor]] = {n: partial(epoch, task, part) for n, part in batches.items()}
        # The gate was the round to warm up.
        seconds = interleave(jobs, rounds=2 if quick else 3, warmup=0, clock=processor_clock)
        useful = sum(map(len, samples))
        for name, _, goal in PEERS:
            share = useful / sum(batch.input_ids.numel() for batch in batches[name])
            note = f'{share:.0%} of the padded rows is text, packs are {fill:.1%} full'
            found.append(compare(f'{kind}, {useful:,} useful tokens', seconds, name, goal=goal, note=note))
    return found
