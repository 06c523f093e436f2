"""Pictures to square tiles, bit for bit as the published models were trained and measured.

Everything here gives uint8 ``[T, 3, S, S]``: the same code cuts pictures for training, evaluation and serving, and
:func:`normalise` (or the data preprocessor, on the device) makes floats of them.
"""

from __future__ import annotations

import io
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from internvl_mm.data.decode import MAX_PIXELS
from internvl_mm.preprocess.image import IMAGENET_MEAN, IMAGENET_STD
from internvl_mm.registry import TRANSFORMS
from internvl_mm.utils.checks import check_counts
from internvl_mm.utils.errors import ConfigError, DataError

TILE = 448  # side in pixels of every release's tiles
Grid = tuple[int, int]  # columns, rows


@lru_cache(maxsize=64)
def candidate_grids(min_num: int, max_num: int) -> tuple[Grid, ...]:
    """All grids of ``min_num`` to ``max_num`` tiles in the published order.

    Grids of equal area come in the order in which CPython's set gives them, which decides between equally good ones.
    That order follows from the order of insertion, so the loops (and the set) have to be these.
    """
    found = {
        (columns, rows)
        for number in range(min_num, max_num + 1)
        for columns in range(1, number + 1)
        for rows in range(1, number + 1)
        if min_num <= columns * rows <= max_num
    }
    return tuple(sorted(found, key=lambda grid: grid[0] * grid[1]))


@lru_cache(maxsize=65_536)
def choose_grid(width: int, height: int, *, max_num: int, min_num: int = 1, size: int = TILE) -> Grid:
    """Return (columns, rows) of the grid whose shape is nearest to the picture's.

    Of grids of exactly equal shape, the largest is taken of which the picture covers more than half in pixels.

    Args:
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.
        max_num: Most tiles.
        min_num: Fewest tiles.
        size: Side of a tile in pixels.
    """
    aspect, area = width / height, width * height
    # Exact float comparisons on purpose: equal shapes such as 2×1 and 4×2 have exactly equal quotients.
    best, distance = (1, 1), float('inf')
    # 35 grids of 1 to 12 tiles, of which 800 × 600 takes 4 × 3 and 1920 × 1080 4 × 2.
    for columns, rows in candidate_grids(min_num, max_num):
        difference = abs(aspect - columns / rows)
        if difference < distance:
            best, distance = (columns, rows), difference
        # Candidates come in order of area: of several that pass, the last and largest stays.
        elif difference == distance and area > 0.5 * size * size * columns * rows:
            best = (columns, rows)
    return best


class Tiling(ABC):
    """Picture to tiles.

    Args:
        size: Side of a tile in pixels.
    """

    def __init__(self, size: int = TILE):
        check_counts(size=size)
        self.size = size

    @abstractmethod
    def count(self, width: int, height: int, *, num_images: int = 1) -> int:
        """Number of tiles of a picture, without reading it.

        Args:
            width: In pixels.
            height: In pixels.
            num_images: Images of the sample, which share its tiles.
        """

    @abstractmethod
    def __call__(self, image: Image.Image, *, num_images: int = 1) -> Tensor:
        """Cut an RGB picture: uint8 ``[T, 3, S, S]``."""


@TRANSFORMS.register_module()
class DynamicTiling(Tiling):
    """A grid of tiles in the shape of the picture, then the whole picture as a thumbnail (InternVL 1.5 and later).

    Args:
        max_num: Most tiles of a sample, the thumbnails not counted; several images share it evenly, each gets one.
        min_num: Fewest tiles of an image.
        size: Side of a tile in pixels.
        thumbnail: Add the whole picture as the last tile where there is more than one.

    Raises:
        ConfigError: A number is out of its range.
    """

    def __init__(self, max_num: int = 12, *, min_num: int = 1, size: int = TILE, thumbnail: bool = True):
        super().__init__(size)
        check_counts(max_num=max_num, min_num=min_num)
        if min_num > max_num:
            raise ConfigError(f'min_num={min_num} is more than max_num={max_num}: no grid has so many tiles')
        self.max_num, self.min_num, self.thumbnail = max_num, min_num, thumbnail

    def __repr__(self) -> str:
        options = f'{self.max_num}, min_num={self.min_num}, size={self.size}, thumbnail={self.thumbnail}'
        return f'DynamicTiling({options})'

    def grid(self, width: int, height: int, *, num_images: int = 1) -> Grid:
        """(columns, rows) of one of ``num_images`` pictures."""
        share = max(1, self.max_num // num_images)
        # A share below min_num has no grid of its own in the published code, which then takes one tile.
        return choose_grid(width, height, max_num=share, min_num=self.min_num, size=self.size)

    def count(self, width: int, height: int, *, num_images: int = 1) -> int:
        """See :meth:`Tiling.count`."""
        columns, rows = self.grid(width, height, num_images=num_images)
        return columns * rows + (self.thumbnail and columns * rows != 1)  # True counts 1

    def __call__(self, image: Image.Image, *, num_images: int = 1) -> Tensor:
        """See :meth:`Tiling.__call__`; tiles in raster order."""
        size = self.size
        columns, rows = self.grid(*image.size, num_images=num_images)
        count = columns * rows
        tiles = np.empty((count + (self.thumbnail and count != 1), 3, size, size), np.uint8)
        # One resize for the whole grid; Pillow's filter is bicubic unless told otherwise.
        canvas = np.asarray(image.resize((size * columns, size * rows), Image.Resampling.BICUBIC))
        # The canvas is [rows·S, columns·S, 3]; Pillow's sizes are (width, height).
        for number in range(count):
            # Row by row, as the language model reads them.
            top, left = number // columns * size, number % columns * size
            _planes(canvas[top : top + size, left : left + size], tiles[number])
        # Last, and only beside several tiles, as published.
        if len(tiles) > count:
            _planes(np.asarray(image.resize((size, size), Image.Resampling.BICUBIC)), tiles[count])
        return torch.from_numpy(tiles)


@TRANSFORMS.register_module()
class SquashTiling(Tiling):
    """The whole picture squeezed into one tile (V1.1, V1.2, and every frame of a video).

    Args:
        size: Side of the tile in pixels.
    """

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.size})'

    def count(self, width: int, height: int, *, num_images: int = 1) -> int:
        """See :meth:`Tiling.count`."""
        return 1

    def __call__(self, image: Image.Image, *, num_images: int = 1) -> Tensor:
        """See :meth:`Tiling.__call__`."""
        tile = np.empty((1, 3, self.size, self.size), np.uint8)
        resized = image.resize((self.size, self.size), Image.Resampling.BICUBIC)
        _planes(np.asarray(resized), tile[0])
        return torch.from_numpy(tile)


class CanvasTiling(SquashTiling):
    """One tile of a picture that keeps its shape on a canvas, which may be much larger than picture and tile."""

    @abstractmethod
    def canvas(self, width: int, height: int) -> tuple[int, int]:
        """Width and height in pixels of what the tile is made from, for a picture of such sides."""

    def count(self, width: int, height: int, *, num_images: int = 1) -> int:
        """See :meth:`Tiling.count`.

        Raises:
            DataError: The picture is so oblong that its canvas would be larger than what the decoder takes.
        """
        across, down = self.canvas(width, height)
        # A strip of 20,000×500 pixels passes the decoder's bound and would become a square of 1.2 GB.
        if across * down > MAX_PIXELS:
            raise DataError(
                f'{width}×{height} pixels, so oblong that its tile would be cut from {across}×{down} pixels, more than '
                f'{MAX_PIXELS:,}: leave such pictures out'
            )
        return super().count(width, height, num_images=num_images)


@TRANSFORMS.register_module()
class PadTiling(CanvasTiling):
    """The picture padded to a square with the mean colour, as one tile (``pad2square`` of the published configs).

    Args:
        size: Side of the tile in pixels.
    """

    COLOUR = tuple(int(value * 255) for value in IMAGENET_MEAN)  # (123, 116, 103): cut off, not rounded

    def canvas(self, width: int, height: int) -> tuple[int, int]:
        """See :meth:`CanvasTiling.canvas`."""
        return (max(width, height),) * 2

    def __call__(self, image: Image.Image, *, num_images: int = 1) -> Tensor:
        """See :meth:`Tiling.__call__`.

        Raises:
            DataError: It is so oblong that its canvas would be too large.
        """
        self.count(*image.size)
        width, height = image.size
        square = Image.new('RGB', self.canvas(width, height), self.COLOUR)
        # Of an odd margin the smaller half goes left or above, as LLaVA's expand2square rounds.
        square.paste(image, ((square.width - width) // 2, (square.height - height) // 2))
        return super().__call__(square)


@TRANSFORMS.register_module()
class CropTiling(CanvasTiling):
    """The middle of the picture, its shorter side resized to the tile: LLaVA without ``image_aspect_ratio='pad'``.

    Args:
        size: Side of the tile in pixels.

    Source: transformers' ``CLIPImageProcessor``, which LLaVA uses.
    """

    def canvas(self, width: int, height: int) -> tuple[int, int]:
        """See :meth:`CanvasTiling.canvas`."""
        # Cut off, not rounded, as CLIP's processor does; the same for both sides.
        short = min(width, height)
        return int(width * self.size / short), int(height * self.size / short)

    def __call__(self, image: Image.Image, *, num_images: int = 1) -> Tensor:
        """See :meth:`Tiling.__call__`.

        Raises:
            DataError: It is so oblong that its canvas would be too large.
        """
        self.count(*image.size)
        width, height = self.canvas(*image.size)
        resized = image.resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - self.size) // 2, (height - self.size) // 2
        return super().__call__(resized.crop((left, top, left + self.size, top + self.size)))


@TRANSFORMS.register_module()
class JpegNoise:
    """Write and read every tile as JPEG of random quality: the one augmentation of the published chat training.

    Draws from Python's global generator, which data sets seed for each sample.

    Args:
        quality: Lowest and highest quality, both possible.
    """

    def __init__(self, quality: tuple[int, int] = (75, 100)):
        low, high = quality
        if not 1 <= low <= high <= 100:
            raise ConfigError(
                f'quality={quality} is not possible: it must be two numbers from 1 to 100, in order'
            )
        self.quality = quality

    def __repr__(self) -> str:
        return f'JpegNoise({self.quality})'

    def __call__(self, tiles: Tensor) -> Tensor:
        """Degrade uint8 ``[T, 3, S, S]``; each tile with its own quality."""
        noisy = np.empty(tiles.shape, np.uint8)
        for tile, target in zip(tiles.numpy(), noisy):
            file = io.BytesIO()
            # [3, S, S] to [S, S, 3], as Pillow wants it
            picture = Image.fromarray(np.ascontiguousarray(tile.transpose(1, 2, 0)))
            # Only the quality is set: Pillow's other defaults, such as 4:2:0 chroma, are the published ones.
            picture.save(file, 'JPEG', quality=random.randint(*self.quality))
            _planes(np.asarray(Image.open(file)), target)
        return torch.from_numpy(noisy)


def normalise(
    tiles: Tensor, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> Tensor:
    """Make fp32 of uint8 ``[T, 3, S, S]``: (x / 255 − mean) / std, rounded as torchvision rounds.

    Args:
        tiles: What a :class:`Tiling` gives.
        mean: Per channel, of pixels in 0–1.
        std: Per channel, of pixels in 0–1.
    """
    # The three operations of ToTensor and Normalize, on all 256 values of a pixel instead of on every pixel.
    values = torch.arange(256, dtype=torch.float32).div_(255)
    # [3, 256], a row per channel
    table = values[None].sub(torch.tensor(mean)[:, None]).div_(torch.tensor(std)[:, None]).numpy()
    source, pixels = tiles.numpy(), np.empty(tiles.shape, np.float32)
    for tile, target in zip(source, pixels):
        for channel in range(3):
            cv2.LUT(tile[channel], table[channel], dst=target[channel])
    return torch.from_numpy(pixels)


def _planes(pixels: np.ndarray, target: np.ndarray) -> None:
    """Copy ``[S, S, 3]`` (possibly a window) to ``[3, S, S]``."""
    # OpenCV writes into arrays of the right shape that it is handed: one pass, five times as fast as NumPy's copy.
    cv2.split(pixels, list(target))
