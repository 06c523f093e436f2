"""Tiles against the published algorithm, pixel for pixel."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from internvl_mm.preprocess.image import IMAGENET_MEAN, IMAGENET_STD
from internvl_mm.preprocess.tiling import (
    CropTiling,
    DynamicTiling,
    JpegNoise,
    PadTiling,
    SquashTiling,
    candidate_grids,
    choose_grid,
    normalise,
)
from internvl_mm.utils.errors import ConfigError, DataError


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width * height).integers(0, 256, (height, width, 3))
    return Image.fromarray(pixels.astype(np.uint8))


def published(image: Image.Image, max_num: int, size: int) -> list[Image.Image]:
    """Resize, then crop tile by tile."""
    columns, rows = choose_grid(*image.size, max_num=max_num, size=size)
    canvas = image.resize((size * columns, size * rows))
    tiles = []
    for number in range(columns * rows):
        left, top = number % columns * size, number // columns * size
        tiles.append(canvas.crop((left, top, left + size, top + size)))
    if len(tiles) != 1:
        tiles.append(image.resize((size, size)))
    return tiles


@pytest.mark.parametrize(
    ('width', 'height', 'grid12', 'grid6'),
    [
        (224, 224, (1, 1), (1, 1)),
        (448, 448, (1, 1), (1, 1)),
        (896, 448, (2, 1), (2, 1)),
        (1000, 1000, (3, 3), (2, 2)),
        (800, 600, (4, 3), (3, 2)),
        (600, 800, (3, 4), (2, 3)),
        (1920, 1080, (4, 2), (2, 1)),
        (3000, 1000, (6, 2), (3, 1)),
    ],
)
def test_grids_of_the_published_table(width: int, height: int, grid12, grid6) -> None:
    assert choose_grid(width, height, max_num=12) == grid12
    assert choose_grid(width, height, max_num=6) == grid6


def test_candidates() -> None:
    assert (len(candidate_grids(1, 6)), len(candidate_grids(1, 12))) == (14, 35)
    areas = [columns * rows for columns, rows in candidate_grids(1, 40)]
    assert areas == sorted(areas)
    assert set(candidate_grids(3, 4)) == {(1, 3), (3, 1), (2, 2), (1, 4), (4, 1)}


@pytest.mark.parametrize(('width', 'height'), [(50, 40), (170, 60), (33, 200), (64, 64), (1, 9)])
@pytest.mark.parametrize('max_num', [1, 6, 12])
def test_pixels_are_the_published_ones(width: int, height: int, max_num: int) -> None:
    image, tiling = noise(width, height), DynamicTiling(max_num, size=28)
    tiles, expected = tiling(image), published(image, max_num, 28)
    assert tiles.dtype == torch.uint8
    assert len(tiles) == len(expected) == tiling.count(width, height)
    for tile, picture in zip(tiles, expected, strict=True):
        assert np.array_equal(tile.permute(1, 2, 0).numpy(), np.asarray(picture))
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)])
    floats = torch.stack([transform(picture) for picture in expected])
    assert torch.equal(normalise(tiles), floats)


def test_images_of_a_sample_share_its_tiles() -> None:
    tiling = DynamicTiling(12)
    assert [tiling.grid(800, 600, num_images=number) for number in (1, 2, 5, 13)] == [
        (4, 3),
        (3, 2),
        (1, 1),
        (1, 1),
    ]
    assert [tiling.count(800, 600, num_images=number) for number in (1, 2, 5)] == [13, 7, 1]
    assert DynamicTiling(12, thumbnail=False).count(800, 600) == 12
    assert len(DynamicTiling(12, size=14, thumbnail=False)(noise(80, 60), num_images=2)) == 6


def test_squashed_and_padded() -> None:
    image = noise(60, 20)
    squashed = SquashTiling(14)(image)[0].permute(1, 2, 0).numpy()
    assert np.array_equal(squashed, np.asarray(image.resize((14, 14))))
    square = Image.new('RGB', (60, 60), (123, 116, 103))
    square.paste(image, (0, 20))
    padded = PadTiling(14)(image)[0].permute(1, 2, 0).numpy()
    assert np.array_equal(padded, np.asarray(square.resize((14, 14))))
    assert PadTiling(14).count(60, 20) == 1


@pytest.mark.parametrize(('tiling', 'size'), [(PadTiling(28), (20_000, 500)), (CropTiling(28), (90_000, 1))])
def test_strips_that_would_grow_beyond_bounds_are_refused(
    tiling: SquashTiling, size: tuple[int, int]
) -> None:
    with pytest.raises(DataError, match='so oblong that its tile would be cut from'):
        tiling(Image.new('RGB', size))
    # Before any training: data are checked by the sizes of their pictures.
    with pytest.raises(DataError, match=f'{size[0]}×{size[1]} pixels, so oblong'):
        tiling.count(*size)


def test_jpeg_noise_differs_by_tile_and_follows_the_seed() -> None:
    tiles = DynamicTiling(4, size=56, thumbnail=False)(Image.new('RGB', (90, 90), (200, 30, 90)))
    tiles = (tiles + torch.arange(56, dtype=torch.uint8) * 3).clone()
    random.seed(3)
    first = JpegNoise()(tiles)
    random.seed(3)
    assert torch.equal(JpegNoise()(tiles), first)
    assert not torch.equal(first, tiles)
    assert (first.float() - tiles.float()).abs().mean() < 25
    assert JpegNoise((75, 75))(tiles).sum() != JpegNoise((100, 100))(tiles).sum()


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match='min_num=7 is more than max_num=6'):
        DynamicTiling(6, min_num=7)
    with pytest.raises(ConfigError, match='max_num=0'):
        DynamicTiling(0)
    with pytest.raises(ConfigError, match=r'quality=\(90, 101\)'):
        JpegNoise((90, 101))
