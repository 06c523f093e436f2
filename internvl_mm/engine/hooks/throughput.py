"""How fast training is, and how much of the device it uses."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import FlexibleRunner

from internvl_mm.models.backbones import InternViT
from internvl_mm.registry import HOOKS
from internvl_mm.utils.checks import check_counts
from internvl_mm.utils.errors import ConfigError
from internvl_mm.utils.flops import peak_flops, vit_flops
from internvl_mm.utils.parameters import numel

from ._runner import task_of


@HOOKS.register_module()
class ThroughputHook(Hook):
    """Scalars ``train/images_per_second`` (all processes together) and ``train/mfu`` (percent).

    Model FLOP utilisation counts the backbone alone: its forward pass, twice as much for the backward pass of the
    share of its parameters that trains, nothing for recomputation. It is left out where the peak is not known.

    Args:
        window: Iterations to average over.
        peak: FLOP/s of one device in the compute dtype, for devices :func:`~internvl_mm.utils.flops.peak_flops` does
            not know.

    Raises:
        ConfigError: ``window`` is less than 1, or ``peak`` is not positive.

    Source: Chowdhery et al. 2022, "PaLM", appendix B (definition of model FLOP utilisation).
    """

    # after IterTimerHook (50), which measures, before LoggerHook (60), which writes
    priority = 55

    def __init__(self, window: int = 20, peak: float | None = None):
        check_counts(window=window)
        if peak is not None and peak <= 0:
            raise ConfigError(
                f'ThroughputHook: peak={peak} must be positive, in FLOP/s; leave it out to look it up'
            )
        self.peak = peak
        self._images: deque[int] = deque(maxlen=window)
        self._seconds: deque[float] = deque(maxlen=window)
        self._flops: float | None = None  # per image, forward and backward
        self._grid: tuple[int, int] | None = None  # of patches, for which these were counted

    def before_train(self, runner: FlexibleRunner) -> None:
        """Look up the peak."""
        task = task_of(runner)
        device = next(task.parameters()).device
        self.peak = self.peak or peak_flops(device, getattr(task, 'autocast_dtype', None) or torch.float32)

    def before_train_iter(self, runner: FlexibleRunner, batch_idx: int, data_batch: Any = None) -> None:
        """Count the operations of one image, anew when its size changes."""
        task = task_of(runner)
        backbone = getattr(task, 'backbone', None)
        if not isinstance(backbone, InternViT):  # tasks of several parts have none
            return
        height, width = data_batch['inputs'][0].shape[-2:]
        patch = backbone.patch_size
        # A task that resizes its images or masks patches says what is left of them.
        asked = getattr(task, 'training_grid', None)
        grid = asked((height, width)) if asked else (height // patch, width // patch)
        if grid != self._grid:
            self._grid, self._flops = grid, training_flops(backbone, grid)

    def after_train_iter(
        self, runner: FlexibleRunner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Update both scalars."""
        # Of this process times their number: uneven last batches do not matter over a window.
        self._images.append(len(data_batch['inputs']) * runner.world_size)
        self._seconds.append(runner.message_hub.get_scalar('train/time').current())
        # images / s; train/time is one iteration in seconds, reading included.
        speed = sum(self._images) / sum(self._seconds)
        runner.message_hub.update_scalar('train/images_per_second', speed)
        if self.peak and self._flops:
            used = speed * self._flops / (self.peak * runner.world_size)  # of the peak of all devices
            runner.message_hub.update_scalar('train/mfu', 100 * used)


def training_flops(backbone: InternViT, grid: tuple[int, int]) -> float:
    """FLOPs of one image through a backbone, forward and backward.

    Args:
        backbone: Parts of it may be frozen.
        grid: Rows and columns of patches.
    """
    forward = vit_flops(
        backbone.num_layers,
        width=backbone.width,
        mlp=backbone.encoder.layers[0].mlp.fc1.out_features,
        grid=grid,
        class_token=backbone.use_class_token,
        patch=backbone.patch_size,
    )
    parameters = list(backbone.parameters())
    trains = sum(numel(p) for p in parameters if p.requires_grad) / sum(map(numel, parameters))
    # Backward is two products for each of forward's: by the inputs and by the weights.
    return forward * (1 + 2 * trains)
