"""Focal losses with the arguments of mmcv's functions, computed in fp32 for half types.

Source: Lin et al. 2017 (arXiv 1708.02002). N predictions, C classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def sigmoid_focal_loss(
    input: Tensor,
    target: Tensor,
    gamma: float = 2.0,
    alpha: float = 0.25,
    weight: Tensor | None = None,
    reduction: str = 'mean',
) -> Tensor:
    """Binary focal loss of every class against the others.

    Args:
        input: Logits ``[N, C]``.
        target: Class of each prediction ``[N]``; C, or any number outside of 0 … C - 1, is background.
        gamma: How much easy predictions count less.
        alpha: Weight of the right class; the others have 1 - alpha.
        weight: Weight per class ``[C]`` of the target; background has 1.
        reduction: ``'none'`` ``[N, C]``, ``'sum'``, or ``'mean'`` over N (not over N·C).

    Returns:
        The loss in the dtype of ``input``.
    """
    logits, classes = input.to(torch.promote_types(input.dtype, torch.float32)), input.shape[1]
    # [N, 1] against [C] -> bool [N, C]; the row of a background prediction is False throughout.
    right = target[:, None] == torch.arange(classes, device=input.device)
    # Powers of probabilities through their logarithms: the gradient stays finite where the probability is 0 or 1.
    log_p, log_not_p = F.logsigmoid(logits), F.logsigmoid(-logits)
    loss = torch.where(
        right,
        -alpha * (gamma * log_not_p).exp() * log_p,
        -(1 - alpha) * (gamma * log_p).exp() * log_not_p,
    )
    if weight is not None:
        loss = loss * _weight_of(target, weight, background=1)[:, None]
    return _reduce(loss, reduction).to(input.dtype)


def softmax_focal_loss(
    input: Tensor,
    target: Tensor,
    gamma: float = 2.0,
    alpha: float = 0.25,
    weight: Tensor | None = None,
    reduction: str = 'mean',
) -> Tensor:
    """Focal loss of the right class under a softmax.

    Args:
        input: Logits ``[N, C]``.
        target: Class of each prediction ``[N]``; predictions with a negative one count as zero loss.
        gamma: How much easy predictions count less.
        alpha: Weight of all.
        weight: Weight per class ``[C]`` of the target.
        reduction: ``'none'`` ``[N]``, ``'sum'`` or ``'mean'`` over N.

    Returns:
        The loss in the dtype of ``input``.
    """
    logits = input.to(torch.promote_types(input.dtype, torch.float32))
    # [N]. gather refuses negative classes; what they get in place is masked out below.
    log_p = logits.log_softmax(-1).gather(1, target.clamp(min=0)[:, None])[:, 0]
    # expm1 keeps 1 - p apart from 0; where it is 0, so is the loss.
    loss = -alpha * (-log_p.expm1()).clamp(min=torch.finfo(log_p.dtype).tiny) ** gamma * log_p
    if weight is not None:
        loss = loss * _weight_of(target, weight, background=0)
    return _reduce(loss.masked_fill(target < 0, 0), reduction).to(input.dtype)


def _weight_of(target: Tensor, weight: Tensor, *, background: float) -> Tensor:
    known = (target >= 0) & (target < len(weight))
    return torch.where(known, weight[target.clamp(0, len(weight) - 1)], background)


def _reduce(loss: Tensor, reduction: str) -> Tensor:
    if reduction == 'none':
        return loss
    if reduction == 'sum':
        return loss.sum()
    if reduction == 'mean':
        # No prediction: no loss rather than NaN.
        return loss.sum() / max(len(loss), 1)
    raise ValueError(f"reduction={reduction!r} is not possible: use 'none', 'mean' or 'sum'")
