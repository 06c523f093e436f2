"""Causal attention inside each sample of a packed row, as an attention implementation of transformers.

A row of several samples needs no mask of ``[L, L]``: the samples are attended to one by one, which costs the sum of
their squares instead of the square of their sum. On GPUs one kernel takes all of them.

Shape letters: B rows, H heads, K key-value heads, L length, d size of a head, N samples of a row.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

PACKED = 'packed'  # its name among transformers' implementations
_HALVES = (torch.float16, torch.bfloat16)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend within samples; what transformers calls for ``attn_implementation='packed'``.

    Args:
        module: The attention layer.
        query: ``[1, H, L, d]``.
        key: ``[1, K, L, d]``.
        value: ``[1, K, L, d]``.
        attention_mask: Of no effect on packed rows.
        scaling: Factor of the logits.
        dropout: Of the attention weights.
        cu_seq_lens_q: Where samples begin and the last ends, int32 ``[N + 1]``; without it, SDPA.
        max_length_q: Tokens of the longest sample; looked up when left out, for which a GPU has to be waited for.
        sliding_window: How many tokens a token sees, itself among them (Phi-3, some Qwen2); all when left out.
        **kwargs: Passed on to SDPA.

    Returns:
        ``[B, L, H, d]``, and no weights.
    """
    if cu_seq_lens_q is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    if query.is_cuda and query.dtype in _HALVES and not dropout:
        rows = (part[0].transpose(0, 1) for part in (query, key, value))  # [L, heads, d]
        longest = _longest(cu_seq_lens_q) if max_length_q is None else max_length_q
        grouped = query.shape[1] != key.shape[1]
        # A window of (-1, 0) is causal; the numbers do not count the token itself.
        back = sliding_window - 1 if sliding_window else -1
        attended = varlen_attn(
            *rows,
            cu_seq_lens_q,
            cu_seq_lens_q,
            longest,
            longest,
            scale=scaling,
            window_size=(back, 0),
            enable_gqa=grouped,
        )
        return attended.unsqueeze(0), None  # [1, L, H, d]
    # One copy to the host, not two per sample.
    bounds = cu_seq_lens_q.tolist()
    masks = [_window(end - start, sliding_window, query.device) for start, end in zip(bounds, bounds[1:])]
    samples = [
        scaled_dot_product_attention(
            *(part[:, :, start:end] for part in (query, key, value)),
            attn_mask=mask,
            dropout_p=dropout,
            is_causal=mask is None,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        for mask, start, end in zip(masks, bounds, bounds[1:])
    ]
    return torch.cat(samples, dim=2).transpose(1, 2), None  # [1, L, H, d]


def _window(length: int, window: int | None, device: torch.device) -> Tensor | None:
    """Which tokens see which in a sample, bool ``[L, L]``; ``None`` where every token sees all before it."""
    if not window or window >= length:
        return None
    # token i sees i - window + 1 to i
    return torch.ones(length, length, dtype=torch.bool, device=device).tril().triu(1 - window)


def packed_arguments(cu_seqlens: Tensor) -> dict[str, Any]:
    """Arguments of a language model's forward that make it isolate samples."""
    # A mask of four dimensions is passed on as it is; anything else would make transformers build one of [L, L].
    unused = torch.empty(1, 1, 0, 0, dtype=torch.bool, device=cu_seqlens.device)
    # Once for all layers: asking the GPU in each would keep the next from being queued.
    return dict(attention_mask=unused, cu_seq_lens_q=cu_seqlens, max_length_q=_longest(cu_seqlens))


def _longest(cu_seqlens: Tensor) -> int:
    return int((cu_seqlens[1:] - cu_seqlens[:-1]).max())


AttentionInterface.register(PACKED, packed_attention)
# Masks are looked up by the kernel's name, too; rows that are padded, not packed, need SDPA's.
AttentionMaskInterface.register(PACKED, sdpa_mask)
