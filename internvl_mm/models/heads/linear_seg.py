"""The linear segmentation head of probing and few-shot tuning."""

from __future__ import annotations

from typing import Any

from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.losses import CrossEntropyLoss
from torch import Tensor, nn

from internvl_mm.registry import MODELS


@MODELS.register_module()
class LinearSegHead(BaseDecodeHead):
    """Batch norm, then a 1×1 convolution with bias, one map ``[B, C, h, w]`` to logits ``[B, num_classes, h, w]``.

    486,550 trainable parameters for 3200 channels and 150 classes. Without the batch norm raw features of InternViT,
    which are large, do not train. Names are the published ``norm.*`` and ``conv_seg.*``. mmseg's ``FCNHead`` without
    convolutions has no norm.

    Args:
        in_channels: Channels C.
        num_classes: Number of classes.
        in_index: Which map.
        options: See mmseg's ``BaseDecodeHead``; ``dropout_ratio`` is 0 as published.

    Source: InternVL ``segmentation/mmseg_custom/models/decode_heads/fcn_head.py`` (``with_norm``; SyncBatchNorm).
    """

    def __init__(self, in_channels: int, *, num_classes: int, in_index: int = -1, **options: Any):
        # The class, because mmseg's default is a name that a run looks up elsewhere.
        defaults = dict(dropout_ratio=0, loss_decode=dict(type=CrossEntropyLoss))
        # Twice: conv_seg reads `channels`, and no convolution changes the width in between.
        super().__init__(
            in_channels,
            in_channels,
            num_classes=num_classes,
            in_index=in_index,
            **{**defaults, **options},
        )
        self.norm = nn.BatchNorm2d(in_channels)  # eps 1e-5, unlike the 1e-6 of classification

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Classify every cell of one of the maps."""
        return self.cls_seg(self.norm(self._transform_inputs(inputs)))
