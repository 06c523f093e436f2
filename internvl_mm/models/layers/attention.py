"""Self-attention of InternViT, global or in windows.

Shape letters: B batch, N tokens, D width, H heads, d head width (H·d = D), (h, w) patch grid, s window side.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from internvl_mm.utils.errors import ConfigError

from .norm import build_norm

AttentionKernel = Literal['sdpa', 'flash', 'eager']
WindowPadding = Literal['tokens', 'projected']


def flash_installed() -> bool:
    """Whether the flash-attn package can be imported."""
    return importlib.util.find_spec('flash_attn') is not None


def attend(q: Tensor, k: Tensor, v: Tensor, kernel: AttentionKernel) -> Tensor:
    """Softmax attention without mask, scale ``d ** -0.5``.

    Args:
        q: Queries ``[B, H, N, d]``; ``k`` and ``v`` alike.
        k: Keys.
        v: Values.
        kernel: ``'sdpa'`` PyTorch's kernels; ``'flash'`` the flash-attn package for half precision on CUDA and
            ``'sdpa'`` elsewhere; ``'eager'`` the published fallback: softmax in the compute dtype.

    Returns:
        ``[B, N, H·d]``.
    """
    batch, _, length, _ = q.shape
    # flash-attn has kernels for halves on CUDA only.
    if kernel == 'flash' and q.is_cuda and q.dtype in (torch.float16, torch.bfloat16):
        return _flash(q, k, v)
    if kernel == 'eager':
        # The scale goes on q, as published: unscaled products are √d larger and overflow fp16 sooner.
        weights = ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).softmax(dim=-1)  # [B, H, N, N]
        out = weights @ v
    else:
        out = F.scaled_dot_product_attention(q, k, v)
    return out.transpose(1, 2).reshape(batch, length, -1)  # [B, H, N, d] to [B, N, H·d]


def _flash(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    from flash_attn import flash_attn_func

    # The package takes and gives [B, N, H, d]; its default scale is d ** -0.5.
    return flash_attn_func(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).flatten(2)


class Attention(nn.Module):
    """Multi-head self-attention with an optional joint norm on queries and keys.

    The QK norm spans all heads together: one mean square per token over D channels, not one per head.

    Args:
        dim: Width D.
        num_heads: H; must divide ``dim``.
        qkv_bias: Whether the joint projection has a bias (300M: yes, 6B: no).
        qk_norm: Arguments of :func:`build_norm` after the width, ``None`` for no QK norm (300M).
        kernel: See :func:`attend`; ``'flash'`` becomes ``'sdpa'``, with a warning, where flash-attn is not installed.

    Source: InternVL ``InternAttention``.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        qkv_bias: bool,
        qk_norm: dict | None,
        kernel: AttentionKernel = 'sdpa',
    ):
        super().__init__()
        if dim % num_heads:
            raise ConfigError(
                f'hidden_size={dim} is not divisible by num_attention_heads={num_heads}: choose a divisor of {dim}'
            )
        if kernel == 'flash' and not flash_installed():
            warnings.warn(
                "attention='flash' was asked for but flash-attn is not installed: using 'sdpa'", stacklevel=2
            )
            kernel = 'sdpa'
        self.num_heads = num_heads
        self.kernel: AttentionKernel = kernel
        # Output rows are ordered [q of all heads | k of all heads | v of all heads].
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        if qk_norm is not None:
            self.q_norm = build_norm(dim=dim, **qk_norm)
            self.k_norm = build_norm(dim=dim, **qk_norm)
        self.has_qk_norm = qk_norm is not None
        self.proj = nn.Linear(dim, dim)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of ``[..., D]``, each ``[..., D]``."""
        q, k, v = self.qkv(x).chunk(3, dim=-1)  # [..., D] each
        if self.has_qk_norm:
            # An fp32 norm weight promotes half queries and keys; the kernels need one dtype.
            q, k = self.q_norm(q).to(v.dtype), self.k_norm(k).to(v.dtype)
        return q, k, v

    def mix(self, parts: Iterable[Tensor]) -> Tensor:
        """Attend with queries, keys and values ``[B, N, D]``; before the output projection."""
        q, k, v = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in parts)  # [B, H, N, d]
        return attend(q, k, v, self.kernel)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Attend over all tokens ``[B, N, D]``; ``grid`` is only needed by :class:`WindowAttention`."""
        # Part of the signature, so that a block calls both kinds alike.
        del grid
        return self.proj(self.mix(self.project(x)))


class WindowAttention(Attention):
    """Attention within non-overlapping windows of ``window_size`` x ``window_size`` patches, no class token.

    The grid is padded with zeros to multiples of the window, and padded tokens are *not* masked: they join the softmax
    with logit 0 and value 0, which lowers the attention mass near the lower and right border. The published models
    were defined so.

    Args:
        dim: Width D.
        num_heads: H.
        window_size: Side of a window, in patches.
        padding: What is padded: ``'tokens'`` before the projection (InternViT; with a qkv bias padding then has the
            bias for key and value), or ``'projected'`` queries, keys and values (ViT-Adapter). Without bias the two
            are equal.
        **options: See :class:`Attention`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        window_size: int,
        padding: WindowPadding = 'tokens',
        **options,
    ):
        super().__init__(dim, num_heads, **options)
        if padding not in ('tokens', 'projected'):
            raise ConfigError(f"window_padding={padding!r} is unknown: use 'tokens' or 'projected'")
        self.window_size, self.padding = window_size, padding

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Attend within windows of ``[B, h·w, D]``."""
        if self.padding == 'tokens':
            parts = self.project(self._split(x, grid))
        else:
            q, k, v = (self._split(part, grid) for part in self.project(x))
            parts = (q, k, v)
        return self.proj(self._merge(self.mix(parts), grid))

    def _split(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """``[B, h·w, D]`` to windows ``[B·rows·columns, s·s, D]``, zeros where a window leaves the grid."""
        (height, width), side = grid, self.window_size
        # F.pad counts axes from the last: none of D, then the right of the width, then the foot of the height.
        maps = F.pad(x.unflatten(1, grid), (0, 0, 0, -width % side, 0, -height % side))
        # [B, rows·s, columns·s, D] -> [B, rows, columns, s, s, D]
        windows = maps.unflatten(2, (-1, side)).unflatten(1, (-1, side)).transpose(2, 3)
        return windows.reshape(-1, side * side, x.shape[-1])

    def _merge(self, windows: Tensor, grid: tuple[int, int]) -> Tensor:
        """The inverse of :meth:`_split`, without the padding."""
        (height, width), side = grid, self.window_size
        rows, columns = -(-height // side), -(-width // side)
        maps = windows.view(-1, rows, columns, side, side, windows.shape[-1])  # [B, rows, columns, s, s, D]
        maps = maps.transpose(2, 3).flatten(3, 4).flatten(1, 2)  # [B, rows·s, columns·s, D]
        return maps[:, :height, :width].flatten(1, 2)  # [B, h·w, D]
