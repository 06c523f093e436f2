"""A segmentation head of two steps: every map to the same channels, then their sum."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn

from internvl_mm.registry import MODELS


@MODELS.register_module()
class SumHead(BaseDecodeHead):
    """One 1×1 convolution per map, everything resampled to the finest and added up.

    Args:
        in_channels: Channels of the maps the head takes.
        channels: Channels of the sum.
        options: See mmseg's ``BaseDecodeHead``; ``num_classes`` and ``in_index`` are needed.
    """

    def __init__(self, in_channels: list[int], *, channels: int, **options: Any):
        super().__init__(in_channels, channels, input_transform='multiple_select', **options)
        self.reduce = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in in_channels)

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Logits ``[B, num_classes, h, w]`` of the finest of the maps."""
        chosen = self._transform_inputs(inputs)
        maps = [reduce(map_) for reduce, map_ in zip(self.reduce, chosen, strict=True)]
        size = maps[0].shape[2:]
        total = sum(F.interpolate(map_, size, mode='bilinear', align_corners=False) for map_ in maps)
        return self.cls_seg(F.relu(total))
