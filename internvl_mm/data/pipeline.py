"""Transforms one after the other, from a PIL image to the uint8 tensor every sample carries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from internvl_mm.registry import TRANSFORMS
from internvl_mm.utils.errors import ConfigError

Transform = Callable[[Any], Any] | dict[str, Any]


class Pipeline:
    """PIL RGB image to uint8 ``[3, H, W]``.

    Args:
        transforms: Callables, or configs of registered ones, each eating what the one before gives: a PIL image or a
            uint8 tensor. A final PIL image becomes a tensor by itself.

    Attributes:
        settings: The transforms as configs or text, for hashes.
    """

    def __init__(self, transforms: Sequence[Transform] = ()):
        self.settings = [part if isinstance(part, dict) else _describe(part) for part in transforms]
        self.transforms = [TRANSFORMS.build(part) if isinstance(part, dict) else part for part in transforms]

    def __call__(self, image: Image.Image) -> Tensor:
        """Transform one image.

        Raises:
            ConfigError: The transforms end in something else than an RGB image or its uint8 tensor.
        """
        result: Any = image
        for transform in self.transforms:
            result = transform(result)
        pixels = pil_to_tensor(result) if isinstance(result, Image.Image) else result
        if (
            not isinstance(pixels, Tensor)
            or pixels.dtype != torch.uint8
            or pixels.ndim != 3
            or len(pixels) != 3
        ):
            seen = (
                f'{pixels.dtype} {list(pixels.shape)}'
                if isinstance(pixels, Tensor)
                else type(pixels).__name__
            )
            raise ConfigError(
                f'transform gives {seen} instead of an RGB image or a uint8 tensor [3, H, W]: leave out conversion to '
                'float and normalisation, which the data preprocessor does on the device'
            )
        return pixels


def _describe(transform: Callable) -> str:
    # Functions have an address in their text, which changes from run to run.
    name = getattr(transform, '__qualname__', None)
    return f'{transform.__module__}.{name}' if name else repr(transform)
