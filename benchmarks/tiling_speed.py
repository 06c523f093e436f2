"""Dynamic tiling against the published algorithm: resize, crop, ToTensor and Normalize tile by tile, stack.

The gate: equal grids, uint8 tiles equal to Pillow's pixels, and fp32 tiles equal bit by bit, for every picture. One
thread; the pictures are noise and gradients, because Pillow's time does not depend on what they show.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from benchmarks.harness import Row, compare, interleave, processor_clock
from internvl_mm.preprocess.image import IMAGENET_MEAN, IMAGENET_STD
from internvl_mm.preprocess.tiling import DynamicTiling, normalise

SIZE, MAX_NUM = 448, 12
# (width, height): grids of 12, 8, 12 and 1 tiles.
PICTURES = ((1200, 900), (1920, 1080), (640, 480), (448, 448))
GOALS = {'fp32': 1.3, 'uint8': 1.5}


def picture(width: int, height: int) -> Image.Image:
    """Half gradient, half noise."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    noise = np.random.default_rng(0).integers(0, 256, (height, width))
    return Image.fromarray(np.stack([x, y, noise], axis=-1).astype(np.uint8))


def published_tiles(image: Image.Image) -> list[Image.Image]:
    """Grid, resize and crops, as the model cards write them out."""
    width, height = image.size
    aspect = width / height
    ratios = {
        (i, j)
        for n in range(1, MAX_NUM + 1)
        for i in range(1, n + 1)
        for j in range(1, n + 1)
        if i * j <= MAX_NUM
    }
    best, best_difference = (1, 1), float('inf')
    for ratio in sorted(ratios, key=lambda ratio: ratio[0] * ratio[1]):
        difference = abs(aspect - ratio[0] / ratio[1])
        if difference < best_difference:
            best, best_difference = ratio, difference
        elif difference == best_difference and width * height > 0.5 * SIZE * SIZE * ratio[0] * ratio[1]:
            best = ratio
    columns, rows = best
    resized = image.resize((SIZE * columns, SIZE * rows))
    tiles = []
    for index in range(columns * rows):
        left, top = index % columns * SIZE, index // columns * SIZE
        tiles.append(resized.crop((left, top, left + SIZE, top + SIZE)))
    if len(tiles) != 1:
        tiles.append(image.resize((SIZE, SIZE)))
    return tiles


TO_PIXELS = transforms.Compose(
    [
        transforms.Lambda(lambda image: image.convert('RGB') if image.mode != 'RGB' else image),
        transforms.Resize((SIZE, SIZE), interpolation=InterpolationMode.BICUBIC),
        transforms.ToTensor(),
        transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
    ]
)


def published(image: Image.Image) -> Tensor:
    """The published function from a picture to ``pixel_values`` ``[T, 3, S, S]``."""
    return torch.stack([TO_PIXELS(tile) for tile in published_tiles(image)])


def check(tiling: DynamicTiling, image: Image.Image) -> None:
    """Raise unless tiles are equal, as bytes and as floats."""
    ours, theirs = tiling(image), published_tiles(image)
    pixels = np.stack([np.asarray(tile).transpose(2, 0, 1) for tile in theirs])
    if not np.array_equal(ours.numpy(), pixels):
        raise AssertionError(f'uint8 tiles of a picture of {image.size} differ')
    if not torch.equal(normalise(ours), published(image)):
        raise AssertionError(f'fp32 tiles of a picture of {image.size} differ')


def run(quick: bool) -> list[Row]:
    """Measure both hand-overs for each picture size."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    tiling = DynamicTiling(MAX_NUM, size=SIZE)
    rounds = 5 if quick else 25
    rows = []
    for width, height in PICTURES:
        image = picture(width, height)
        check(tiling, image)
        columns, count = tiling.grid(width, height)
        jobs: dict[str, Callable[[], object]] = {
            'fp32': lambda image=image: normalise(tiling(image)),
            'uint8': partial(tiling, image),
        }
        for kind, job in jobs.items():
            seconds = interleave(
                {'ours': job, 'published': partial(published, image)},
                rounds=rounds,
                warmup=2,
                clock=processor_clock,
            )
            what = f'{width}×{height} to {columns}×{count} tiles, {kind}'
            note = 'bit-exact' if kind == 'fp32' else 'normalised on the device'
            rows.append(compare(what, seconds, 'published', goal=GOALS[kind], note=note))
    return rows
