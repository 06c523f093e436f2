"""InternLM2: Llama's computation under other names, with queries, keys and values in one interleaved matrix.

Folders keep InternLM2's own layout; in memory the model is transformers' Llama. transformers applies
:data:`CONVERSIONS` when it loads and undoes them when it saves, so that a folder comes back with the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, conversion_mapping, modeling_utils
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import ConversionOps, WeightConverter, WeightRenaming

from .families import LanguageFamily, register_family
from .llama import LORA_TARGETS

# InternLM2 name to Llama's, for everything that is only renamed; all are unique inside a name.
_RENAMED = (
    ('model.tok_embeddings.', 'model.embed_tokens.'),
    ('.attention_norm.', '.input_layernorm.'),
    ('.ffn_norm.', '.post_attention_layernorm.'),
    ('.attention.wo.', '.self_attn.o_proj.'),
    # Of the gated MLP, w2(silu(w1 x) · w3 x).
    ('.feed_forward.w1.', '.mlp.gate_proj.'),
    ('.feed_forward.w3.', '.mlp.up_proj.'),
    ('.feed_forward.w2.', '.mlp.down_proj.'),
)
_HEAD = ('output.', 'lm_head.')
_JOINT = '.attention.wqkv.'
_APART = tuple(f'.self_attn.{part}_proj.' for part in 'qkv')


class InternLM2Config(LlamaConfig):
    """The published InternLM2 configuration: Llama's, where ``bias`` is about the attention."""

    model_type = 'internlm2'

    def __post_init__(self, **kwargs: Any) -> None:
        """Take over ``bias``; the field stays in the configuration for other readers."""
        self.bias = bool(kwargs.pop('bias', False))
        self.attention_bias = self.attention_bias or self.bias
        super().__post_init__(**kwargs)


class InternLM2ForCausalLM(LlamaForCausalLM):
    """InternLM2 in transformers' Llama; converts on load and on save.

    Source: InternLM2 ``modeling_internlm2.py``; Cai et al. 2024 (arXiv 2403.17297).
    """

    config_class = InternLM2Config
    config: InternLM2Config


def split_wqkv(joint: Tensor, *, heads: int, kv_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Take queries, keys and values apart.

    The rows come per key-value head: its g = heads / kv_heads queries, then its key, then its value.

    Args:
        joint: Weight ``[(heads + 2·kv_heads)·d, ...]`` or bias, d the size of a head.
        heads: Query heads.
        kv_heads: Key-value heads.

    Returns:
        Queries ``[heads·d, ...]``, keys and values ``[kv_heads·d, ...]``.
    """
    # InternLM2-7B: 32 and 8 heads of size 128, so g = 4.
    group = heads // kv_heads
    # [kv_heads, g + 2, d, ...]; a bias has no further dimensions and goes the same way.
    rows = joint.unflatten(0, (kv_heads, group + 2, -1))
    return rows[:, :group].flatten(0, 2), rows[:, group].flatten(0, 1), rows[:, group + 1].flatten(0, 1)


def join_wqkv(query: Tensor, key: Tensor, value: Tensor, *, heads: int, kv_heads: int) -> Tensor:
    """The inverse of :func:`split_wqkv`."""
    size = query.shape[0] // heads
    # Queries [kv_heads, g, d, ...], key and value [kv_heads, 1, d, ...]: in order along dimension 1.
    parts = [part.unflatten(0, (kv_heads, -1, size)) for part in (query, key, value)]
    return torch.cat(parts, dim=1).flatten(0, 2)


def to_llama(weights: Mapping[str, Tensor], *, heads: int, kv_heads: int) -> dict[str, Tensor]:
    """Rename and split an InternLM2 state dict (names from ``model.`` on) to Llama's."""
    llama = {}
    for name, tensor in weights.items():
        if _JOINT in name:
            parts = split_wqkv(tensor, heads=heads, kv_heads=kv_heads)
            llama.update({name.replace(_JOINT, to): part for to, part in zip(_APART, parts, strict=True)})
        else:
            llama[_renamed(name)] = tensor
    return llama


def from_llama(weights: Mapping[str, Tensor], *, heads: int, kv_heads: int) -> dict[str, Tensor]:
    """The inverse of :func:`to_llama`."""
    stored = {}
    for name, tensor in weights.items():
        if _APART[0] in name:
            parts = [tensor, *(weights[name.replace(_APART[0], other)] for other in _APART[1:])]
            stored[name.replace(_APART[0], _JOINT)] = join_wqkv(*parts, heads=heads, kv_heads=kv_heads)
        # Keys and values went in beside their queries.
        elif not any(part in name for part in _APART):
            stored[_renamed(name, back=True)] = tensor
    return stored


def _renamed(name: str, *, back: bool = False) -> str:
    for theirs, ours in _RENAMED:
        old, new = (ours, theirs) if back else (theirs, ours)
        if old in name:
            return name.replace(old, new)
    # The name of the head is too short to be searched for inside of names: only the start counts.
    old, new = (_HEAD[1], _HEAD[0]) if back else _HEAD
    return new + name.removeprefix(old) if name.startswith(old) else name


class SplitWqkv(ConversionOps):
    """:func:`split_wqkv` as transformers applies it while it loads."""

    def convert(
        self, input_dict: dict, source_patterns: list[str], target_patterns: list[str], **kwargs: Any
    ) -> dict:
        """One joint tensor to three; sizes come from the configuration of the model that loads."""
        [joint] = (value[0] if isinstance(value, list) else value for value in input_dict.values())
        # Copies: views of one tensor would keep it in memory and could not be saved.
        parts = [part.contiguous() for part in split_wqkv(joint, **_heads(kwargs['config']))]
        return dict(zip(target_patterns, parts, strict=True))

    @property
    def reverse_op(self) -> ConversionOps:
        """What saving applies."""
        return JoinWqkv()


class JoinWqkv(ConversionOps):
    """:func:`join_wqkv` as transformers applies it while it saves."""

    def convert(
        self, input_dict: dict, source_patterns: list[str], target_patterns: list[str], **kwargs: Any
    ) -> dict:
        """Three tensors to the joint one."""
        values = {name: value[0] if isinstance(value, list) else value for name, value in input_dict.items()}
        parts = [values[name] for name in source_patterns]
        return {target_patterns[0]: join_wqkv(*parts, **_heads(kwargs['config']))}

    @property
    def reverse_op(self) -> ConversionOps:
        """What loading applies."""
        return SplitWqkv()


def _heads(config: Any) -> dict[str, int]:
    language = getattr(config, 'llm_config', config)  # a chat model is loaded and saved as a whole
    return dict(heads=language.num_attention_heads, kv_heads=language.num_key_value_heads)


def conversions() -> list[WeightRenaming | WeightConverter]:
    """The same renaming and splitting in transformers' terms."""
    # Patterns with plain dots: transformers turns them around to save, and 5.3 keeps a backslash in the name.
    renamed = [*_RENAMED, ('output.weight', 'lm_head.weight')]
    joint = WeightConverter(
        source_patterns=_JOINT.strip('.'),
        target_patterns=[part.strip('.') for part in _APART],
        operations=[SplitWqkv()],
    )
    return [*(WeightRenaming(old, new) for old, new in renamed), joint]


def _convert_inside_models() -> None:
    """Before transformers looked into the parts of a model for conversions (as 5.3 does not): add ours to the whole."""
    if hasattr(conversion_mapping, 'extract_weight_conversions_for_model'):
        return
    published = conversion_mapping.get_model_conversion_mapping

    def get_model_conversion_mapping(model: PreTrainedModel, *args: Any, **kwargs: Any) -> list:
        found = published(model, *args, **kwargs)
        inside = any(isinstance(module, InternLM2ForCausalLM) for module in model.modules())
        return [*conversions(), *found] if inside else found

    conversion_mapping.get_model_conversion_mapping = get_model_conversion_mapping
    # modeling_utils has imported the function by name, so it holds a reference of its own.
    modeling_utils.get_model_conversion_mapping = get_model_conversion_mapping


register_family(LanguageFamily('InternLM2ForCausalLM', InternLM2Config, InternLM2ForCausalLM, LORA_TARGETS))
register_checkpoint_conversion_mapping('InternLM2ForCausalLM', conversions(), overwrite=True)
_convert_inside_models()
