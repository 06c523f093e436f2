"""The neck slot: features of a backbone to what a head eats."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from internvl_mm.structures import VisionFeatures


class BaseNeck(nn.Module, ABC):
    """:class:`VisionFeatures` of width ``dim`` to one vector per image, ``[B, out_dim]``.

    Attributes:
        out_dim: Width of the result; heads take it as their input width.
    """

    out_dim: int

    @abstractmethod
    def forward(self, features: VisionFeatures) -> Tensor:
        """Pool the features of a batch to ``[B, out_dim]``."""
