"""Attention pooling: the published ``clip_projector`` and the attention-pooling probe."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from internvl_mm.utils.errors import ConfigError

from .attention import attend


class PoolCrossAttention(nn.Module):
    """Cross-attention whose projections carry separately named biases (the published key layout).

    Args:
        dim: Width of queries, keys and values.
        num_heads: Must divide ``dim``.
        out_dim: Width of the output.
    """

    def __init__(self, dim: int, num_heads: int, out_dim: int):
        super().__init__()
        if dim % num_heads:
            raise ConfigError(
                f'width {dim} is not divisible by num_heads={num_heads}: choose a divisor of {dim}'
            )
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim, bias=False)
        self.k = nn.Linear(dim, dim, bias=False)
        self.v = nn.Linear(dim, dim, bias=False)
        # Beside the layers as in BEiT, but for keys, too.
        self.q_bias = nn.Parameter(torch.zeros(dim))
        self.k_bias = nn.Parameter(torch.zeros(dim))
        self.v_bias = nn.Parameter(torch.zeros(dim))
        self.proj = nn.Linear(dim, out_dim)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend from ``query [B, M, D]`` to ``key, value [B, N, D]``; returns ``[B, M, out_dim]``."""
        projected = (
            F.linear(query, self.q.weight, self.q_bias),
            F.linear(key, self.k.weight, self.k_bias),
            F.linear(value, self.v.weight, self.v_bias),
        )
        # [B, H, n, d]
        q, k, v = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in projected)
        return self.proj(attend(q, k, v, 'sdpa'))


class AttentionPool(nn.Module):
    """One query, the mean of all tokens, attends to all tokens. No residual, no MLP, no position terms.

    Args:
        dim: Width of the tokens.
        num_heads: 16 in the published projector, 25 in the published probe.
        out_dim: Width of the result: 768 in the projector, ``dim`` in the probe.
        eps: Floor of the three layer norms; 1e-5 as published (the blocks use 1e-6).

    Source: InternVL ``AttentionPoolingBlock``.
    """

    def __init__(self, dim: int, *, num_heads: int, out_dim: int, eps: float = 1e-5):
        super().__init__()
        self.norm1_q = nn.LayerNorm(dim, eps=eps)
        self.norm1_k = nn.LayerNorm(dim, eps=eps)
        self.norm1_v = nn.LayerNorm(dim, eps=eps)
        self.cross_attn = PoolCrossAttention(dim, num_heads, out_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Pool ``[B, N, D]`` (class token included in the mean and in the keys) to ``[B, out_dim]``."""
        query = tokens.mean(dim=1, keepdim=True)  # [B, 1, D]
        pooled = self.cross_attn(self.norm1_q(query), self.norm1_k(tokens), self.norm1_v(tokens))
        return pooled.squeeze(1)  # [B, out_dim]
