"""Root-mean-square norm in the two roundings found in the wild, and channel-last/first layer norms by name."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from internvl_mm.utils.errors import ConfigError

Rounding = Literal['pure', 'fused']
NormType = Literal['rms_norm', 'layer_norm']


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last dimension, statistics in fp32.

    The two roundings agree in fp32. In half precision they differ by about one unit in the last place per norm, which
    adds up over 48 blocks.

    Args:
        dim: Size of the last dimension.
        eps: Added to the mean square.
        rounding: ``'pure'`` casts to the input's dtype before the weight is multiplied (the published PyTorch class);
            ``'fused'`` multiplies by the weight in fp32 and casts once (apex ``FusedRMSNorm``, which published runs
            used when apex was installed).

    Source: InternVL ``InternRMSNorm`` and apex ``FusedRMSNorm``; Zhang & Sennrich 2019.
    """

    def __init__(self, dim: int, eps: float = 1e-6, *, rounding: Rounding = 'pure'):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps
        self.rounding = rounding

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``[..., dim]``; 'pure' with an fp32 weight promotes half inputs to fp32, as published."""
        if x.dtype == torch.float32 == self.weight.dtype:
            # One rounding at most either way: the fused kernel serves both.
            return F.rms_norm(x, self.weight.shape, self.weight, self.eps)
        # In fp32 whatever comes in: a square above 65504 is infinite in fp16, and raw features are large.
        normalised = F.rms_norm(x.float(), self.weight.shape, None, self.eps)
        if self.rounding == 'fused':
            return (normalised * self.weight.float()).to(x.dtype)
        return self.weight * normalised.to(x.dtype)

    def extra_repr(self) -> str:
        """Shown in ``print(module)``."""
        return f'{self.weight.numel()}, eps={self.eps}, rounding={self.rounding!r}'


class ChannelLayerNorm(nn.Module):
    """Layer norm of maps ``[B, C, h, w]`` over C at every cell, computed in fp32; not a group norm with one group.

    Args:
        dim: Channels C.
        eps: Added to the (biased) variance.

    Source: InternVL's segmentation backbone; Detectron2's ``LayerNorm`` in ViTDet.
    """

    def __init__(self, dim: int, eps: float = 1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.eps = eps

    def forward(self, maps: Tensor) -> Tensor:
        """Normalise ``[B, C, h, w]``; the result has the dtype of the input."""
        cells = maps.float().permute(0, 2, 3, 1)  # [B, h, w, C]
        # autocast leaves layer norms in fp32
        normalised = F.layer_norm(cells, self.weight.shape, self.weight.float(), self.bias.float(), self.eps)
        return normalised.permute(0, 3, 1, 2).to(maps.dtype)

    def extra_repr(self) -> str:
        """Shown in ``print(module)``."""
        return f'{self.weight.numel()}, eps={self.eps}'


def build_norm(norm_type: NormType, dim: int, eps: float, *, rounding: Rounding = 'pure') -> nn.Module:
    """Make the norm a config names.

    Args:
        norm_type: ``'rms_norm'`` (6B) or ``'layer_norm'`` (300M).
        dim: Size of the last dimension.
        eps: Numerical floor.
        rounding: Only used by ``'rms_norm'``.

    Raises:
        ConfigError: Another ``norm_type``, or an ``eps`` that is no positive number.
    """
    if not isinstance(eps, float) or eps <= 0:
        raise ConfigError(f'eps={eps!r} of a norm is not possible: it must be a number above 0, such as 1e-6')
    if norm_type == 'rms_norm':
        return RMSNorm(dim, eps, rounding=rounding)
    if norm_type == 'layer_norm':
        return nn.LayerNorm(dim, eps=eps)
    raise ConfigError(f"norm_type={norm_type!r} is unknown: use 'rms_norm' (6B) or 'layer_norm' (300M)")
