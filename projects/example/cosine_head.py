"""A classifier that looks at directions alone: logits are scaled cosines between features and class vectors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from internvl_mm.registry import MODELS


@MODELS.register_module()
class CosineHead(nn.Module):
    """Scaled cosine similarity, ``[B, in_dim]`` to logits ``[B, num_classes]``.

    Args:
        in_dim: Width of the features; the task fills it in from the neck.
        num_classes: Number of classes.
        scale: Factor on the cosines, learned from this start. Cosines end at 1, too flat for a softmax.

    Source: Gidaris and Komodakis, "Dynamic Few-Shot Visual Learning without Forgetting", CVPR 2018, section 3.2.
    """

    def __init__(self, in_dim: int, num_classes: int, *, scale: float = 10.0):
        super().__init__()
        self.in_dim, self.num_classes = in_dim, num_classes
        self.weight = nn.Parameter(torch.empty(num_classes, in_dim))
        self.scale = nn.Parameter(torch.tensor(float(scale)))
        nn.init.normal_(self.weight)  # only the directions count

    def forward(self, features: Tensor) -> Tensor:
        """Classify ``[B, in_dim]``."""
        directions = F.normalize(features.to(self.weight.dtype), dim=-1)
        return self.scale * F.linear(directions, F.normalize(self.weight, dim=-1))
