"""Batches of uint8 pictures to normalised pixels on the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from internvl_mm.preprocess.image import IMAGENET_MEAN, IMAGENET_STD
from internvl_mm.registry import MODELS, TRANSFORMS
from internvl_mm.structures import ImageSample
from internvl_mm.utils.errors import ConfigError

BatchAugment = Callable[[Tensor, list[ImageSample]], Tensor]


@MODELS.register_module()
class ImageDataPreprocessor(BaseDataPreprocessor):
    """Stack the pictures of a batch, move them to the device as bytes, and normalise them there.

    Equal, bit for bit, to torchvision's ``ToTensor`` and ``Normalize`` on each picture.

    Args:
        mean: Channel means of pixels in 0–1, RGB.
        std: Channel standard deviations of pixels in 0–1, RGB.
        batch_augment: What happens to training batches, for example :class:`Mixing`, or its config.
        non_blocking: Copy to the device without waiting; of use with pinned memory.
    """

    def __init__(
        self,
        *,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        batch_augment: BatchAugment | dict | None = None,
        non_blocking: bool = False,
    ):
        super().__init__(non_blocking)
        if len(mean) != 3 or len(std) != 3 or not all(value > 0 for value in std):
            raise ConfigError(
                f'mean={tuple(mean)}, std={tuple(std)}: both need three values (R, G, B), and those of std be above 0'
            )
        # Not persistent: constants of the recipe do not belong into checkpoints.
        self.register_buffer('mean', torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std).view(3, 1, 1), persistent=False)
        self.batch_augment: BatchAugment | None = (
            TRANSFORMS.build(batch_augment) if isinstance(batch_augment, dict) else batch_augment
        )

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Prepare what the collate function gave.

        Args:
            data: ``inputs``, uint8 ``[3, H, W]`` each (or stacked), and ``data_samples``; other keys, such as
                ``bad_samples``, stay behind.
            training: Whether to augment.

        Returns:
            ``dict(inputs=float32 [B, 3, H, W], data_samples=list[ImageSample])``.

        Raises:
            ConfigError: Pictures of one batch differ in size, or are not uint8.
        """
        inputs = self.normalise(_stack(data['inputs']))
        samples = data.get('data_samples') or []
        if training and self.batch_augment is not None:
            # After normalising: mixtures of bytes would be rounded.
            inputs = self.batch_augment(inputs, samples)
        return dict(inputs=inputs, data_samples=self.cast_data(samples))

    def normalise(self, pixels: Tensor) -> Tensor:
        """Uint8 ``[B, 3, H, W]`` to ``(x / 255 − mean) / std`` in fp32, on the device."""
        # Bytes, not floats, cross to the device: a quarter of the traffic.
        pixels = pixels.to(self.device, non_blocking=self._non_blocking)
        # Three steps in torchvision's order: one fused scale and shift would round differently.
        return pixels.float().div_(255).sub_(self.mean.float()).div_(self.std.float())


def _stack(pictures: Sequence[Tensor] | Tensor) -> Tensor:
    shapes = sorted({tuple(picture.shape) for picture in pictures})
    if len(shapes) > 1:
        raise ConfigError(
            f'pictures of one batch differ in size: {", ".join(map(str, shapes))}; let the transform of the data set '
            'end in a fixed size, for example with CenterCrop'
        )
    # collate_samples has stacked pictures of one size already.
    pixels = pictures if isinstance(pictures, Tensor) else torch.stack(list(pictures))
    if pixels.dtype != torch.uint8:
        raise ConfigError(
            f'inputs are {pixels.dtype} instead of uint8: leave conversion and normalisation to the data preprocessor'
        )
    return pixels
