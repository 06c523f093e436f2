"""What several hooks ask a runner."""

from __future__ import annotations

from mmengine.model import is_model_wrapper
from mmengine.runner import FlexibleRunner
from torch import Tensor, nn


def task_of(runner: FlexibleRunner) -> nn.Module:
    """The task itself, without the wrapper of a distributed strategy."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def statistics_of(task: nn.Module) -> dict[str, Tensor]:
    """Float buffers that belong into checkpoints: what a forward pass in training mode changes."""
    # keep_vars: the tensors themselves, so that no copy is made. Buffers outside it are caches.
    kept = task.state_dict(keep_vars=True)
    return {
        name: buffer for name, buffer in task.named_buffers() if name in kept and buffer.is_floating_point()
    }
