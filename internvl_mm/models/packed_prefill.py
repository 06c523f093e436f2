"""Reading prompts of different lengths as one packed row, so that no time goes into padding.

Generation in batches pads every prompt to the longest one: beside a question about thirteen tiles, one about a single
tile costs thirteen times as much in every layer. Here all prompts are read as one row without padding; their keys and
values then go where padding at the left would have put them, and generation goes on as always.

Shape letters: B prompts, L length of the longest one, N tokens of all, H width, K key-value heads, d size of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, GenerationConfig, PreTrainedConfig, PreTrainedModel

from .layers.packed_attention import PACKED, packed_arguments

# Rotary positions that change for the whole text when it becomes longer than the model was trained for.
_MOVING = ('dynamic', 'longrope')
# Settings of a generation that needs the padded pass, or a cache of another kind, unless they have these values.
_PLAIN: dict[str, Any] = dict(
    num_beams=1,
    num_return_sequences=1,
    use_cache=True,
    output_hidden_states=False,
    output_attentions=False,
    cache_implementation=None,
    past_key_values=None,
    prefill_chunk_size=None,
    prompt_lookup_num_tokens=None,
    assistant_model=None,
    custom_generate=None,
    position_ids=None,
)


def positions_move(config: PreTrainedConfig, length: int) -> bool:
    """Whether a text of this length has other rotary frequencies than a shorter one.

    Args:
        config: Of the language model.
        length: Tokens.
    """
    rope = getattr(config, 'rope_parameters', None) or {}
    trained = rope.get('original_max_position_embeddings') or config.max_position_embeddings
    return rope.get('rope_type') in _MOVING and length > trained


def can_pack(
    language: PreTrainedModel, mask: Tensor | None, settings: dict[str, Any], config: GenerationConfig | None
) -> bool:
    """Whether :func:`prefill_packed` saves anything and changes nothing.

    Args:
        language: The language model.
        mask: 0 in padding, ``[B, L]``.
        settings: Of this generation.
        config: More of them; what neither says is the model's own.
    """
    # One sample has no padding, and a batch of equal lengths neither.
    if mask is None or mask.dim() != 2 or bool(mask.all()) or not bool(mask[:, -1].all()):
        return False
    if not mask[:, :-1].any():
        return False  # prompts of one token, which generation reads
    if language.config._attn_implementation not in ('sdpa', PACKED):
        return False  # the other kernels know no packed rows
    if positions_move(language.config, mask.shape[1]):
        return False
    sources = (language.generation_config, config, settings)
    chosen = {name: value for source in sources for name, value in _set(source).items()}
    return all(chosen.get(name) in (None, plain) for name, plain in _PLAIN.items())


def _set(source: GenerationConfig | dict[str, Any] | None) -> dict[str, Any]:
    """What a source of settings says about those of ``_PLAIN``."""
    given = source if isinstance(source, dict) else vars(source) if source is not None else {}
    return {name: given[name] for name in _PLAIN if given.get(name) is not None}


@torch.no_grad()
def prefill_packed(language: PreTrainedModel, embeddings: Tensor, mask: Tensor) -> DynamicCache:
    """Read all prompts but for their last tokens, which generation reads itself.

    Args:
        language: The language model; its attention becomes ``'packed'``, which is SDPA for everything else.
        embeddings: Padded at the left, ``[B, L, H]``.
        mask: 0 in padding, ``[B, L]``.

    Returns:
        Keys and values ``[B, K, L - 1, d]`` per layer, 0 in padding.
    """
    if language.config._attn_implementation != PACKED:
        language.set_attn_implementation(PACKED)
    read = mask[:, :-1].bool()
    lengths = read.sum(dim=1)
    bounds = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]).int()  # int32, as the kernels require
    # [B, L - 1] to [N]: positions begin at 0 in every prompt.
    positions = (read.cumsum(dim=1) - 1)[read]
    packed = language.model(
        inputs_embeds=embeddings[:, :-1][read][None],
        position_ids=positions[None],
        past_key_values=DynamicCache(),
        use_cache=True,
        **packed_arguments(bounds),
    ).past_key_values
    padded = DynamicCache()
    for number, layer in enumerate(packed.layers):
        parts = [_unpack(part, read) for part in (layer.keys, layer.values)]
        padded.update(*parts, number)
        layer.keys = layer.values = None  # layer by layer, so that both caches never exist whole
    return padded


def _unpack(part: Tensor, read: Tensor) -> Tensor:
    """``[1, K, N, d]`` to ``[B, K, L - 1, d]``."""
    _, heads, _, size = part.shape
    rows = part.new_zeros(*read.shape, heads, size)
    rows[read.to(part.device)] = part[0].transpose(0, 1)
    return rows.transpose(1, 2)
