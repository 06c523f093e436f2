"""What several hooks ask a runner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmengine.model import is_model_wrapper
from mmengine.runner import FlexibleRunner
from torch import Tensor, nn

if TYPE_CHECKING:
    from internvl_mm.engine.strategies.shares import SharesMixin


def task_of(runner: FlexibleRunner) -> nn.Module:
    """The task itself, without the wrapper of a distributed strategy."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def sharing_of(runner: FlexibleRunner) -> SharesMixin | None:
    """The strategy, where it shares out weights; what belongs to them is cut and put together by it."""
    # mmengine's own strategies know of no shares.
    return runner.strategy if getattr(runner.strategy, 'shares_weights', False) else None


def completes_update(runner: FlexibleRunner) -> bool:
    """Whether the batch that was just taken completed an update, after which no gradients are waiting for more."""
    asked = getattr(runner.optim_wrapper, 'should_update', None)
    return asked is None or asked()


Places = dict[str, tuple[nn.Module, str]]  # module and key of a buffer, by its name in the task


def statistic_places(task: nn.Module) -> Places:
    """Where the float buffers are that belong into checkpoints: what a forward pass in training mode changes."""
    kept = task.state_dict(keep_vars=True)  # the tensors themselves; buffers outside it are caches
    places = {
        f'{prefix}.{key}'.lstrip('.'): (module, key)
        for prefix, module in task.named_modules()
        for key, buffer in module._buffers.items()
        if buffer is not None and buffer.is_floating_point()
    }
    return {name: place for name, place in places.items() if name in kept}


def statistics_of(places: Places) -> dict[str, Tensor]:
    """The buffers as they are now: a forward pass may have put a new tensor in the place of one."""
    return {name: getattr(module, key) for name, (module, key) in places.items()}
