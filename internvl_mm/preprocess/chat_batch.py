"""Batches of conversations, ready for a chat model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from internvl_mm.preprocess.batch import ImageDataPreprocessor
from internvl_mm.preprocess.image import IMAGENET_MEAN, IMAGENET_STD
from internvl_mm.registry import MODELS
from internvl_mm.structures import ChatBatch


@MODELS.register_module()
class ChatDataPreprocessor(ImageDataPreprocessor):
    """Moves a :class:`ChatBatch` to the device and normalises its tiles there, to fp32.

    Args:
        mean: Per channel, of pixels in 0–1.
        std: Per channel, of pixels in 0–1.
        non_blocking: Copy to the device without waiting; of use with pinned memory.
    """

    def __init__(
        self,
        *,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        non_blocking: bool = False,
    ):
        super().__init__(mean=mean, std=std, non_blocking=non_blocking)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Prepare what the collate functions for conversations gave.

        Args:
            data: ``inputs``, a :class:`ChatBatch`, and ``data_samples``; other keys stay behind.
            training: Of no effect: augmentation belongs to the encoder, which knows its sample.

        Returns:
            ``dict(inputs=ChatBatch, data_samples=list[ChatSample])``, tiles fp32.
        """
        # Tiles cross as bytes, too, together with the rest; normalise() finds them on the device.
        batch: ChatBatch = data['inputs'].to(self.device, non_blocking=self._non_blocking)
        tiles = self.normalise(batch.tiles)  # fp32 [T, 3, S, S]
        return dict(inputs=replace(batch, tiles=tiles), data_samples=data.get('data_samples') or [])
