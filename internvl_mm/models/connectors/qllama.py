"""QLLaMA: a Llama whose first positions are learned queries that look at an image.

Layers, rotary positions, caching and generation are those of transformers' Llama; added are the cross-attention of
every k-th layer and the masks.

Shape letters: B images, T = r·B sequences, Q queries, L text tokens, N vision tokens, D width, V width of the vision
tokens, H heads.
Source: InternVL-14B ``modeling_qllama.py``; Chen et al. 2023 (arXiv 2312.14238), section 3.2.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, LlamaModel
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.models.llama.modeling_llama import (
    LlamaDecoderLayer,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
)

from internvl_mm.models.convert.internvl_14b import read_internvl_14b
from internvl_mm.models.convert.probes import check_same
from internvl_mm.models.layers import attend
from internvl_mm.registry import MODELS
from internvl_mm.utils.checks import check_counts
from internvl_mm.utils.errors import did_you_mean
from internvl_mm.utils.paths import ExistingPath

from .base import BaseConnector

# How queries and text see each other, named after the loss each mask was published for: image–text matching (both
# ways), contrast (not at all), generation (text sees the queries).
JointMask = Literal['matching', 'contrast', 'generation']


@cache
def _llama_names() -> frozenset[str]:
    return frozenset(LlamaConfig().to_dict()) | {'rope_theta', 'rope_scaling'}


def unknown_settings(name: str, settings: dict[str, Any], known: Iterable[str]) -> list[str]:
    """What is wrong with the names of settings that transformers would take without a word."""
    return [
        f'{name}.{key}: no setting is called so.{did_you_mean(str(key), known)}'
        for key in settings
        if key not in known
    ]


def llama_problems(name: str, settings: dict[str, Any]) -> list[str]:
    """What is wrong with the settings of a Llama, given as the argument ``name``."""
    return unknown_settings(name, settings, _llama_names())


def additive_mask(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """``[T, n, n]`` of what may be seen to what is added to the scores, ``[T, 1, n, n]``: 0 or the smallest number.

    The smallest number rather than −inf: a row that sees nothing (text without any token) becomes an average, not NaN.
    """
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return mask.masked_fill_(~allowed, torch.finfo(dtype).min).unsqueeze(1)


def joint_mask(text_mask: Tensor, num_queries: int, kind: JointMask) -> Tensor:
    """What each of Q queries followed by L text tokens may see.

    Queries always see all queries, and nobody sees padding.

    Args:
        text_mask: Which text tokens are real, bool ``[T, L]``.
        num_queries: Q; 0 gives the mask of text alone.
        kind: ``'matching'``: everything sees everything; ``'contrast'``: queries and text are apart, text is causal;
            ``'generation'``: text is causal and sees all queries.

    Returns:
        bool ``[T, Q+L, Q+L]``, rows see columns.
    """
    count, length = text_mask.shape
    total = num_queries + length
    sees = torch.ones(total, total, dtype=torch.bool, device=text_mask.device)
    if kind != 'matching':
        # Queries come first: a causal mask hides the text from them; then they see each other.
        sees = sees.tril()
        sees[:num_queries, :num_queries] = True
    if kind == 'contrast':
        sees[num_queries:, :num_queries] = False
    real = torch.cat([text_mask.new_ones(count, num_queries), text_mask], dim=1)  # [T, Q+L]
    return sees & real[:, None, :]


class QLlamaCrossAttention(nn.Module):
    """Queries to vision tokens: no mask, no rotary positions, no bias, norms on both sides.

    Args:
        config: Of the QLLaMA, with ``cross_attention_width`` V.
    """

    def __init__(self, config: LlamaConfig):
        super().__init__()
        width, vision_width = config.hidden_size, config.cross_attention_width
        self.num_heads = config.num_attention_heads
        self.norm1 = LlamaRMSNorm(width, eps=config.rms_norm_eps)  # over D
        self.norm2 = LlamaRMSNorm(vision_width, eps=config.rms_norm_eps)  # over V
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(vision_width, width, bias=False)  # V to D
        self.v_proj = nn.Linear(vision_width, width, bias=False)  # V to D
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(self, queries: Tensor, vision: Tensor) -> Tensor:
        """Attend from ``[T, Q, D]`` to ``[B, N, V]``; sequence t looks at image t modulo B."""
        # norm2 is over V, before the projections to D: keys and values are [B, N, D].
        seen = self.norm2(vision)
        # [T, Q, D], [B, N, D], [B, N, D]
        q, k, v = self.q_proj(self.norm1(queries)), self.k_proj(seen), self.v_proj(seen)
        # [T or B, n, D] to [T or B, H, n, D/H].
        q, k, v = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in (q, k, v))
        # Keys and values are computed once per image, however many texts go with it.
        repeats = (len(queries) // len(vision), 1, 1, 1)
        # repeat, not repeat_interleave: texts of one kind lie together, each time over all B images in order.
        return self.o_proj(attend(q, k.repeat(repeats), v.repeat(repeats), 'sdpa'))


class QLlamaDecoderLayer(LlamaDecoderLayer):
    """A Llama layer with, in every k-th, cross-attention between self-attention and MLP.

    Only the first ``config.cross_attention_positions`` look at the image, and only in sequences that have as many. The
    published code has this number (96) and the width of the vision tokens (3200) as constants, so that a model
    published with fewer queries never looks at the image unless its text is long enough.

    Args:
        config: Of the QLLaMA.
        layer_idx: Index; multiples of ``config.cross_attention_frequency`` look at the image.
    """

    def __init__(self, config: LlamaConfig, layer_idx: int):
        super().__init__(config, layer_idx)
        self.positions = config.cross_attention_positions
        if layer_idx % config.cross_attention_frequency == 0:
            self.cross_attn = QLlamaCrossAttention(config)

    def forward(
        self, hidden_states: Tensor, vision_hidden_states: Tensor | None = None, **kwargs: Any
    ) -> Tensor:
        """Map ``[T, n, D]``; with vision tokens ``[B, N, V]`` the first positions look at them."""
        attended, _ = self.self_attn(hidden_states=self.input_layernorm(hidden_states), **kwargs)
        hidden_states = hidden_states + attended
        # Between self-attention and MLP, as published.
        looks = vision_hidden_states is not None and hasattr(self, 'cross_attn')
        if looks and hidden_states.shape[1] >= self.positions:
            queries, text = hidden_states.tensor_split([self.positions], dim=1)  # [T, Q, D] and [T, n-Q, D]
            # A plain residual, without gate or scale; the text is left as it is.
            queries = queries + self.cross_attn(queries, vision_hidden_states)
            hidden_states = torch.cat([queries, text], dim=1)
        return hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))


class QLlamaModel(LlamaModel):
    """Llama with :class:`QLlamaDecoderLayer`.

    Args:
        config: A Llama's, with ``num_query_token``, ``cross_attention_frequency``, ``cross_attention_positions`` and
            ``cross_attention_width``.
    """

    _no_split_modules = ['QLlamaDecoderLayer']

    def __init__(self, config: LlamaConfig):
        # Not LlamaModel's: it would make 32 layers only to throw them away.
        super(LlamaModel, self).__init__(config)
        self.padding_idx, self.vocab_size = config.pad_token_id, config.vocab_size
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, self.padding_idx)
        self.layers = nn.ModuleList(
            QLlamaDecoderLayer(config, index) for index in range(config.num_hidden_layers)
        )
        self.norm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary_emb = LlamaRotaryEmbedding(config=config)
        self.gradient_checkpointing = False
        self.post_init()


class QLlamaForCausalLM(LlamaForCausalLM):
    """QLLaMA with its language head.

    Args:
        config: See :class:`QLlamaModel`.
    """

    _no_split_modules = ['QLlamaDecoderLayer']

    def __init__(self, config: LlamaConfig):
        # Past LlamaForCausalLM's, which would make a plain Llama first.
        super(LlamaForCausalLM, self).__init__(config)
        self.model = QLlamaModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        vision_hidden_states: Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """One step of generation; see transformers' Llama.

        The first step takes ``inputs_embeds [T, Q+L, D]``, queries first, and looks at ``vision_hidden_states``
        ``[T, N, V]``. Later steps take ids: what the queries saw is then in the cache.
        """
        if inputs_embeds is not None and vision_hidden_states is not None:
            queries = self.config.num_query_token
            if attention_mask is None:  # transformers leaves out a mask of ones
                attention_mask = inputs_embeds.new_ones(inputs_embeds.shape[:2])
            # transformers' mask is of all Q+L positions; joint_mask adds those of the queries itself.
            allowed = joint_mask(attention_mask[:, queries:].bool(), queries, 'generation')
            kwargs['vision_hidden_states'] = vision_hidden_states
            attention_mask = additive_mask(allowed, inputs_embeds.dtype)
        return super().forward(
            input_ids=input_ids, attention_mask=attention_mask, inputs_embeds=inputs_embeds, **kwargs
        )


@MODELS.register_module()
class QLlamaQueries(BaseConnector):
    """What the queries of a QLLaMA saw, as visual tokens: the glue between ViT and language model.

    Args:
        in_dim: Width C of the vision tower.
        num_queries: Number Q of queries, and of visual tokens.
        qllama: Settings of the Llama under their published names.
        cross_attention_frequency: Every how many layers the queries look at the image.
        frozen: Keep all of it as loaded, as published.
        pretrained: Weights to start from: a published InternVL-14B, or a checkpoint of the generative stage.

    Attributes:
        width: Width D of the result, that of the Llama.
    """

    def __init__(
        self,
        in_dim: int,
        *,
        num_queries: int = 96,
        qllama: dict,
        cross_attention_frequency: int = 2,
        frozen: bool = True,
        pretrained: ExistingPath | None = None,
    ):
        super().__init__()
        check_counts(
            in_dim=in_dim, num_queries=num_queries, cross_attention_frequency=cross_attention_frequency
        )
        config = LlamaConfig(**qllama)
        # All queries look at the image, however many: not the published constant of 96.
        config.num_query_token = config.cross_attention_positions = num_queries
        config.cross_attention_frequency, config.cross_attention_width = cross_attention_frequency, in_dim
        # Names as in the published folder, whose weights therefore fit.
        self.qllama = QLlamaForCausalLM(config)
        self.query_tokens = nn.Parameter(torch.empty(1, num_queries, config.hidden_size).normal_(std=0.02))
        self.num_queries = self.tokens_per_tile = num_queries
        self.width = self.out_dim = config.hidden_size
        self.pretrained = pretrained
        self.requires_grad_(not frozen)

    def init_weights(self) -> None:
        """Load ``pretrained``, if given: of that model the queries and the QLLaMA.

        Raises:
            CheckpointError: They are missing, or of other sizes.
        """
        if self.pretrained is None:
            return
        _, others = read_internvl_14b(self.pretrained)
        own = self.state_dict()
        found = {
            name: tensor for name, tensor in others.items() if name.startswith(('qllama.', 'query_tokens'))
        }
        check_same(found, own, str(self.pretrained))
        self.load_state_dict(found)

    @classmethod
    def check_config(cls, *, qllama: dict, **others: Any) -> list[str]:
        """What is wrong with the settings."""
        del others
        return llama_problems('qllama', qllama)

    def forward(self, tokens: Tensor) -> Tensor:
        """See :class:`BaseConnector`; the class token is looked at, too."""
        queries = self.query_tokens.expand(len(tokens), -1, -1)  # [B, Q, D]
        # A text of no tokens: the mask is [B, Q, Q], all true.
        allowed = joint_mask(tokens.new_ones(len(tokens), 0, dtype=torch.bool), self.num_queries, 'matching')
        return self.qllama.model(
            inputs_embeds=queries,
            attention_mask=additive_mask(allowed, queries.dtype),
            vision_hidden_states=tokens,
            use_cache=False,
        ).last_hidden_state
