"""Deformable and masked convolution, with the arguments of mmcv's functions.

Shape letters: B images, C input and O output channels, (H, W) input, (h, w) output, k kernel cells, G deform groups.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

from internvl_mm.utils.errors import ConfigError

Pair = int | tuple[int, int]


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    deform_groups: int = 1,
    bias: bool = False,
    im2col_step: int = 32,
) -> Tensor:
    """Convolve with a learned offset per output cell and kernel cell.

    Args:
        input: ``[B, C, H, W]``.
        offset: ``[B, G·2k, h, w]`` as (y, x) per kernel cell.
        weight: ``[O, C / groups, kernel height, kernel width]``.
        stride: As of a convolution.
        padding: As of a convolution.
        dilation: As of a convolution.
        groups: As of a convolution; must agree with ``weight``.
        deform_groups: G; must agree with ``offset``.
        bias: Only False exists.
        im2col_step: A setting of mmcv's kernel, without effect here.

    Returns:
        ``[B, O, h, w]`` in the dtype of ``input``.

    Source: Dai et al. 2017 (arXiv 1703.06211).
    """
    del im2col_step
    if bias is not False:
        raise ConfigError(f'bias={bias} is not possible in deform_conv2d: only False is')
    return _deform(input, offset, weight, None, None, (stride, padding, dilation), (groups, deform_groups))


def modulated_deform_conv2d(
    input: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    deform_groups: int = 1,
) -> Tensor:
    """:func:`deform_conv2d` with a weight ``mask`` ``[B, G·k, h, w]`` per sample and a bias ``[O]``.

    Source: Zhu et al. 2018 (arXiv 1811.11168).
    """
    return _deform(input, offset, weight, bias, mask, (stride, padding, dilation), (groups, deform_groups))


def _deform(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    steps: tuple[Pair, Pair, Pair],
    groups: tuple[int, int],
) -> Tensor:
    # torchvision reads both numbers of groups off the shapes; a disagreement would pass unseen.
    kernel = weight.shape[2] * weight.shape[3]
    if input.shape[1] != weight.shape[1] * groups[0] or offset.shape[1] != groups[1] * 2 * kernel:
        raise ValueError(
            f'input {list(input.shape)}, offset {list(offset.shape)} and weight {list(weight.shape)} do not agree with '
            f'groups={groups[0]}, deform_groups={groups[1]}'
        )
    # Positions are computed in this dtype: from 128 cells on, bf16 numbers are a whole cell apart.
    exact = torch.promote_types(input.dtype, torch.float32)
    parts = [None if part is None else part.to(exact) for part in (input, offset, weight, bias)]
    # torchvision's order of arguments; its offsets are (y, x) per kernel cell, too.
    out = torchvision.ops.deform_conv2d(*parts, *steps, mask=None if mask is None else mask.to(exact))
    return out.to(input.dtype)


def masked_conv2d(
    features: Tensor, mask: Tensor, weight: Tensor, bias: Tensor | None, padding: Pair = 0, stride: Pair = 1
) -> Tensor:
    """A convolution whose output is zero, and passes no gradient, where ``mask`` is not above 0.

    It computes every cell, so it saves no time; mmcv's has no gradient.

    Args:
        features: ``[B, C, H, W]``.
        mask: ``[B, H, W]`` or ``[1, H, W]``.
        weight: ``[O, C, kernel height, kernel width]``.
        bias: ``[O]`` or ``None``.
        padding: Such that the output is as large as the mask.
        stride: Only 1 exists.

    Returns:
        ``[B, O, H, W]``.
    """
    if stride not in (1, (1, 1)):
        raise ConfigError(f'stride={stride} is not possible in masked_conv2d: only 1 is')
    out = F.conv2d(features, weight, bias, padding=padding)
    if mask.shape[-2:] != out.shape[-2:]:
        raise ValueError(
            f'the mask is {list(mask.shape)} but the output {list(out.shape)}: pad to the same size'
        )
    # [B or 1, 1, H, W] over all channels. Filled, not multiplied: NaN under the mask must not pass.
    return out.masked_fill(mask[:, None] <= 0, 0)
