"""Losses that prefer one answer to another, on summed log-probabilities of N pairs.

A reward is ``beta * (log p − log p_reference)`` of an answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn
from torch.nn.functional import logsigmoid


class RunningMean(nn.Module):
    """Mean over all batches so far of the mean reward of a batch; part of the training state."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer('mean', torch.zeros(()))
        self.register_buffer('count', torch.zeros(()))  # batches

    @torch.no_grad()
    def update(self, value: Tensor) -> Tensor:
        """Take in the rewards of a batch, of all processes; returns the mean."""
        batch = value.detach().float().mean()
        # Every process shifts by the same number.
        all_reduce(batch, 'mean')
        self.count += 1
        # The mean so far, without a sum that grows with the run.
        self.mean += (batch - self.mean) / self.count
        # A copy: the next batch changes the buffer in place, perhaps before this one's backward pass.
        return self.mean.clone()


def sigmoid_loss(chosen: Tensor, rejected: Tensor, shift: Tensor) -> Tensor:
    """Of rewards ``[N]`` each: ``−log σ(r_chosen − r_rejected)``; ``shift`` is of no effect.

    Source: Rafailov et al. 2023, "Direct Preference Optimization" (arXiv 2305.18290).
    """
    del shift
    return -logsigmoid(chosen - rejected)


def bco_pair_loss(chosen: Tensor, rejected: Tensor, shift: Tensor) -> Tensor:
    """Of rewards ``[N]`` each: ``−log σ(r_chosen − δ) − log σ(−(r_rejected − δ))``, δ the running mean reward.

    Source: Jung et al. 2024, "Binary Classifier Optimization" (arXiv 2404.04656).
    """
    return -logsigmoid(chosen - shift) - logsigmoid(-(rejected - shift))


PREFERENCE_LOSSES: dict[str, Callable[[Tensor, Tensor, Any], Tensor]] = dict(
    sigmoid=sigmoid_loss, bco_pair=bco_pair_loss
)
