"""The neck slot: features of a backbone to what a head eats."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from internvl_mm.structures import VisionFeatures


class BaseNeck(nn.Module, ABC):
    """:class:`VisionFeatures` of width ``dim`` to what a head eats: one vector per image, or maps of several scales.

    Fillers derive from :class:`PoolingNeck` or :class:`PyramidNeck`.
    """

    @abstractmethod
    def forward(self, features: VisionFeatures) -> Any:
        """Turn the features of a batch into the input of a head."""

    def init_weights(self) -> None:
        """Load or draw the weights to start from; as it stands, what the constructor made is kept."""


class PoolingNeck(BaseNeck):
    """One vector per image, ``[B, out_dim]``, for classification and retrieval.

    Attributes:
        out_dim: Width of the result; heads take it as their input width.
    """

    out_dim: int

    @abstractmethod
    def forward(self, features: VisionFeatures) -> Tensor:
        """Pool the features of a batch to ``[B, out_dim]``."""


class PyramidNeck(BaseNeck):
    """Maps of several scales, finest first, for segmentation and detection.

    It stands where mmseg and mmdet models want a neck, behind one of our backbones. Another neck of theirs may follow:
    ``neck=[dict(type=MultiScaleNeck, ...), dict(type=FPN, ...)]``.

    Attributes:
        out_channels: Channels C of every map.
        strides: Pixels of the image per cell of each map.
    """

    out_channels: int
    strides: tuple[float, ...]

    @abstractmethod
    def forward(self, features: VisionFeatures) -> tuple[Tensor, ...]:
        """Give one map ``[B, C, H/stride, W/stride]`` per entry of ``strides``."""
