"""The feed-forward half of a transformer block."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Mlp(nn.Module):
    """Linear, exact (erf) GELU, linear; both with bias.

    Args:
        dim: Width of input and output.
        hidden_dim: Width in between.
    """

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[..., dim]`` to ``[..., dim]``."""
        # gelu's default is the exact one; the approximation by tanh would differ from published outputs.
        return self.fc2(F.gelu(self.fc1(x)))
