"""Batch norm over the batches of all processes, on every device.

torch's ``SyncBatchNorm`` refuses tensors outside accelerators, so CPUs get one made of differentiable collectives.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from mmengine.device import get_device
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class _Sum(torch.autograd.Function):
    """Sum over all processes; the gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Normalise with statistics of all processes."""
        return _all_reduced(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Gradients through the shared statistics."""
        return _all_reduced(gradient)


def _all_reduced(x: Tensor) -> Tensor:
    x = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(x)
    return x


class CollectiveBatchNorm(_BatchNorm):
    """``SyncBatchNorm`` with the same numbers on any device and backend: two all-reduces forward, two backward."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f'expected at least 2 dimensions [B, C, ...], got {tuple(input.shape)}')

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``[B, C, ...]`` over B and the trailing dimensions of all processes."""
        self._check_input_dim(input)
        # Without running statistics evaluation uses those of the batch, as torch does.
        if not (self.training or self.running_mean is None):
            return F.batch_norm(
                input,
                self.running_mean,
                self.running_var,
                self.weight,
                self.bias,
                training=False,
                eps=self.eps,
            )
        others = [dimension for dimension in range(input.dim()) if dimension != 1]
        # Sums of half-precision squares lose the variance.
        x = input.float()
        # Processes may hold different numbers of samples, so sums and counts travel, not means.
        count = torch.tensor([x.numel() / x.shape[1]], device=x.device)
        total = _Sum.apply(torch.cat([x.sum(others), count]))  # [C + 1]: sums and the count in one message
        count = total[-1].detach()
        shape = (1, -1, *([1] * (x.dim() - 2)))
        mean = total[:-1] / count  # [C]
        centred = x - mean.view(shape)
        # Of centred values, in a second pass: E[x²] - E[x]² cancels for features far from 0.
        variance = _Sum.apply(centred.square().sum(others)) / count  # [C]
        self._track(mean.detach(), variance.detach(), count)
        out = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            out = out * self.weight.float().view(shape) + self.bias.float().view(shape)
        return out.to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        if not self.track_running_stats:
            return
        self.num_batches_tracked.add_(1)
        # momentum=None is torch's cumulative average.
        rate = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        # torch normalises with the biased variance and tracks the unbiased one.
        unbiased = variance * count / (count - 1).clamp(min=1)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), rate)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), rate)


def synchronise_batch_norms(model: nn.Module) -> nn.Module:
    """Turn every batch norm of a model into one over all processes; parameters and buffers stay the same objects."""
    if dist.get_world_size() == 1:
        return model
    if get_device() == 'cuda':  # where it is going to be, though it may not have been moved yet
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm) and not isinstance(child, CollectiveBatchNorm):
                setattr(parent, name, _collective(child))
    return model


def _collective(norm: _BatchNorm) -> CollectiveBatchNorm:
    new = CollectiveBatchNorm(
        norm.num_features,
        norm.eps,
        norm.momentum,
        affine=norm.affine,
        track_running_stats=norm.track_running_stats,
    )
    # The very objects: the optimiser may hold them already.
    new._parameters, new._buffers = norm._parameters, norm._buffers
    return new.train(norm.training)
