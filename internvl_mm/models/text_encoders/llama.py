"""A Llama as text tower of contrastive training.

Shape letters: T texts, L tokens, D width, E width of the joint space.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaModel

from internvl_mm.models.connectors.qllama import additive_mask, joint_mask, llama_problems
from internvl_mm.registry import MODELS
from internvl_mm.utils.paths import ExistingPath


@MODELS.register_module()
class LlamaTextEncoder(nn.Module):
    """Text ids ``[T, L]`` to embeddings ``[T, E]``: the state of the last real token, projected.

    Names are those of the original InternVL-C file, so that the generative stage starts from a checkpoint of it.

    Args:
        out_dim: Width E of the joint space.
        llama: Settings of the Llama under their published names.
        pretrained: Folder of a Llama to start from (LLaMA-7B in the paper).
        gradient_checkpointing: Recompute activations when training.

    Source: InternVL-C; Chen et al. 2023, section 3.3, stage 1.
    """

    def __init__(
        self,
        out_dim: int,
        *,
        llama: dict,
        pretrained: ExistingPath | None = None,
        gradient_checkpointing: bool = False,
    ):
        super().__init__()
        config = LlamaConfig(**llama)
        self.transformer = LlamaModel(config)
        # [D, E], applied without a transpose, as published; std 1/√D keeps the variance of the states, as in CLIP.
        self.text_projection = nn.Parameter(
            torch.empty(config.hidden_size, out_dim).normal_(std=config.hidden_size**-0.5)
        )
        self.width, self.out_dim, self.pretrained = config.hidden_size, out_dim, pretrained
        if gradient_checkpointing:
            self.transformer.gradient_checkpointing_enable({'use_reentrant': False})

    @classmethod
    def check_config(cls, *, llama: dict, **others: Any) -> list[str]:
        """What is wrong with the settings."""
        del others
        return llama_problems('llama', llama)

    def init_weights(self) -> None:
        """Load ``pretrained``, if given; else what transformers drew is kept."""
        if self.pretrained is not None:
            started = LlamaModel.from_pretrained(self.pretrained, dtype=self.text_projection.dtype)
            self.transformer.load_state_dict(started.state_dict(), strict=True)

    def forward(self, ids: Tensor) -> Tensor:
        """Embed ids ``[T, L]``, padding 0 on the right; not normalised."""
        # Padding is 0. So is <unk>, which published texts mask as well.
        real = ids > 0  # [T, L]
        embeds = self.transformer.embed_tokens(ids)  # [T, L, D]
        # No queries in front: a causal mask without the padding.
        mask = additive_mask(joint_mask(real, 0, 'generation'), embeds.dtype)
        states = self.transformer(
            inputs_embeds=embeds, attention_mask=mask, use_cache=False
        ).last_hidden_state
        # With padding on the right the last real token is the end token, whose state stands for the text.
        last = real.sum(dim=1) - 1
        return states[torch.arange(len(ids), device=ids.device), last] @ self.text_projection  # [T, E]
