"""Steps that DeepSpeed should not take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def skip_bad_steps(optimizer: Any, *, also: Callable[[], bool]) -> bool:
    """Let a ZeRO optimiser look for gradients that are not finite before each step, as it does in fp16 alone.

    A step that is skipped leaves parameters and moments as they were, on all processes.

    Args:
        optimizer: DeepSpeed's optimiser of stage 1, 2 or 3.
        also: Whether to skip the step for a reason of our own; the same on all processes.

    Returns:
        False where DeepSpeed scales losses: too large gradients are then part of its search for a scale.
    """
    if getattr(optimizer, 'torch_autocast_gradscaler', None) is not None or not hasattr(
        optimizer, 'has_overflow'
    ):
        return False
    found = optimizer.has_overflow
    optimizer.has_overflow = lambda *args, **kwargs: found(*args, **kwargs) or also()
    if hasattr(optimizer, 'check_grad_overflow'):
        # Stages 1 and 2 have a switch, which engine.py turns on for fp16 and by a setting for bf16.
        optimizer.check_grad_overflow = True
        return True
    update = optimizer._overflow_check_and_loss_scale_update

    # DeepSpeed 0.19.8 says whether the scale is to follow.
    def check_first(**options: bool) -> bool:
        # Stage 3 looks in fp16 alone; what follows reads what was found.
        if optimizer.dtype != torch.float16:
            optimizer.check_overflow()
        return update(**options)

    optimizer._overflow_check_and_loss_scale_update = check_first
    return True


def overflowed(optimizer: Any) -> bool:
    """Whether DeepSpeed skipped its last step; ``False`` for torch's optimisers, which are asked before it."""
    return bool(getattr(optimizer, 'overflow', False))
