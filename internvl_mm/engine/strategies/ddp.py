"""Several processes, each with the whole model: gradients are averaged."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from mmengine._strategy import DDPStrategy as MMDDPStrategy
from mmengine.device import get_device
from mmengine.model import MMDistributedDataParallel
from torch import nn

from internvl_mm.registry import STRATEGIES
from internvl_mm.utils.precision import Precision

from .base import StrategyMixin
from .sync_bn import synchronise_batch_norms


@STRATEGIES.register_module()
class DDPStrategy(StrategyMixin, MMDDPStrategy):
    """Train in several processes, over nccl on CUDA devices and gloo on CPUs.

    The loss is the mean over processes of their batch means, which is the mean over the global batch.

    Args:
        precision: ``'auto'``, ``'fp32'``, ``'bf16'`` or ``'fp16'``.
        sync_batch_norm: Batch norms see the global batch.
        find_unused_parameters: For models whose loss leaves trainable parameters out in some steps; slower.
    """

    def __init__(
        self,
        *,
        precision: Precision = 'auto',
        sync_batch_norm: bool = True,
        find_unused_parameters: bool = False,
        **kwargs: Any,
    ):
        super().__init__(precision=precision, **kwargs)
        self._sync_batch_norm = sync_batch_norm
        self._find_unused_parameters = find_unused_parameters

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        model = model.to(get_device())
        if not any(parameter.requires_grad for parameter in model.parameters()):
            return model  # nothing to average
        # Published probes normalise over the global batch; per-process statistics change the numbers.
        if self._sync_batch_norm:
            model = synchronise_batch_norms(model)
        with warnings.catch_warnings():
            # torch 2.14 renames broadcast_buffers; mmengine's wrapper and our oldest torch know the old name alone.
            warnings.filterwarnings('ignore', '`broadcast_buffers` is deprecated', FutureWarning)
            return MMDistributedDataParallel(
                model,
                device_ids=[torch.cuda.current_device()] if get_device() == 'cuda' else None,
                # Synchronised statistics are the same on every process.
                broadcast_buffers=not self._sync_batch_norm,
                find_unused_parameters=self._find_unused_parameters,
                # Gradients live in the buckets that are exchanged: separate ones would hold all of them a second time.
                gradient_as_bucket_view=True,
            )
