"""Captions with what the queries saw kept in the cache, against reading queries and picture again for every token.

The gate: both give the same ids. The peer runs QLLaMA over queries, prompt and caption so far in every step, as the
published model does without a cache; the ViT runs once in both. The model is random, with the published 96 queries.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.harness import Row, compare, interleave
from internvl_mm.models.hf_internvl_14b import InternVL14BConfig, InternVL14BModel

IMAGES, QUERIES, PROMPT, LENGTH = 4, 96, 4, 30  # published captions have up to 30 tokens
GOAL = 3.0


def build() -> InternVL14BModel:
    """A random model in the proportions of InternVL-14B, with cross-attention in every second layer."""
    torch.manual_seed(0)
    vision = dict(
        hidden_size=192, num_hidden_layers=4, num_attention_heads=3, intermediate_size=768, image_size=224
    )
    qllama = dict(
        vocab_size=1000, hidden_size=256, num_hidden_layers=8, num_attention_heads=8, intermediate_size=688
    )
    config = InternVL14BConfig(
        vision,
        qllama,
        num_query_token=QUERIES,
        cross_attention_positions=QUERIES,
        cross_attention_width=192,
        attn_pool_num_heads=4,
    )
    return InternVL14BModel(config).eval()


@torch.no_grad()
def recomputed(model: InternVL14BModel, pixels: Tensor, prompt: Tensor) -> Tensor:
    """Greedy ids ``[B, n]``, everything behind the ViT read again for each."""
    vision, ids = model.vision_states(pixels), prompt
    queries = model.query_tokens.expand(len(vision), -1, -1)
    for _ in range(LENGTH):
        embeds = torch.cat([queries, model.get_input_embeddings()(ids)], dim=1)
        logits = model.qllama(inputs_embeds=embeds, vision_hidden_states=vision, use_cache=False).logits
        ids = torch.cat([ids, logits[:, -1:].argmax(dim=-1)], dim=1)
    return ids[:, prompt.shape[1] :]


def run(quick: bool = False) -> list[Row]:
    """Measure greedy captions of a batch."""
    torch.set_num_threads(1)
    model, pixels = build(), torch.randn(IMAGES, 3, 224, 224)
    prompt = torch.randint(3, 1000, (IMAGES, PROMPT))
    settings = dict(max_new_tokens=LENGTH, min_new_tokens=LENGTH, do_sample=False, eos_token_id=None)

    def ours() -> Tensor:
        return model.generate(pixels, prompt, **settings)

    if not torch.equal(ours(), recomputed(model, pixels, prompt)):
        raise AssertionError('the cache changes the captions')
    contestants = dict(ours=ours, recomputed=lambda: recomputed(model, pixels, prompt))
    seconds = interleave(contestants, rounds=2 if quick else 5, warmup=1)
    what = f'{IMAGES} captions of {LENGTH} tokens, {QUERIES} queries'
    return [compare(what, seconds, 'recomputed', goal=GOAL)]
