"""Image constants and transforms of the published recipes, as parts for configs.

Training: ``[dict(type=RandomResizedCrop, size=448), dict(type=RandomFlip)]``.
Evaluation: ``[dict(type=ResizeShortSide, size=448), dict(type=CenterCrop, size=448)]``; the short side becomes exactly
the crop's size, without the 256/224 margin of other recipes.

They are torchvision's, with the recipe's settings fixed, and eat PIL images: Pillow's bicubic filter widens when it
shrinks a picture, and published accuracies were measured with it. Normalisation is the data preprocessor's.
"""

from __future__ import annotations

from typing import Any

from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import get_size

from internvl_mm.data.decode import MAX_PIXELS
from internvl_mm.registry import TRANSFORMS
from internvl_mm.utils.errors import DataError

# Channel means and standard deviations in RGB order, of pixels in 0–1. InternViT uses ImageNet's.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

BICUBIC = InterpolationMode.BICUBIC


@TRANSFORMS.register_module()
class RandomResizedCrop(v2.RandomResizedCrop):
    """A random part of the picture, resized to a square.

    Args:
        size: Side of the result in pixels.
        scale: Smallest and largest share of the area.
        ratio: Smallest and largest width / height of the part.
    """

    def __init__(
        self,
        size: int,
        *,
        scale: tuple[float, float] = (0.08, 1.0),  # of the published ImageNet recipe, as the ratio
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
    ):
        super().__init__(size, scale=scale, ratio=ratio, interpolation=BICUBIC)


@TRANSFORMS.register_module()
class RandomFlip(v2.RandomHorizontalFlip):
    """Mirror the picture left to right.

    Args:
        p: Probability.
    """

    def __init__(self, p: float = 0.5):
        super().__init__(p)


@TRANSFORMS.register_module()
class ResizeShortSide(v2.Resize):
    """Resize so that the shorter side has exactly ``size`` pixels and the shape is kept.

    Args:
        size: Length of the shorter side in pixels.
    """

    def __init__(self, size: int):
        super().__init__(size, interpolation=BICUBIC)

    def forward(self, image: Any) -> Any:
        """Resize one image.

        Raises:
            DataError: It is so oblong that the result would be too large.
        """
        height, width = get_size(image)
        short, long = min(height, width), max(height, width)
        # A strip of 60,000×1 pixels passes the decoder's bound and would become 224×13,440,000: 9 GB.
        # torchvision keeps a side as a list of one.
        if (grown := self.size[0] * round(self.size[0] * long / short)) > MAX_PIXELS:
            raise DataError(
                f'{width}×{height} pixels, so oblong that with a short side of {self.size[0]} it would have {grown:,}: '
                'leave such pictures out'
            )
        return super().forward(image)


@TRANSFORMS.register_module()
class ResizeSquash(v2.Resize):
    """Resize to a square, whatever the shape was (retrieval, and the tiles of the chat models).

    Args:
        size: Side of the result in pixels.
    """

    def __init__(self, size: int):
        super().__init__((size, size), interpolation=BICUBIC)


@TRANSFORMS.register_module()
class CenterCrop(v2.CenterCrop):
    """The square in the middle.

    Args:
        size: Side of the result in pixels.
    """

    def __init__(self, size: int):
        super().__init__(size)
