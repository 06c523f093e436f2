from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from torchvision import transforms

from internvl_mm.data.pipeline import Pipeline
from internvl_mm.preprocess import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    CenterCrop,
    ImageDataPreprocessor,
    RandomFlip,
    RandomResizedCrop,
    ResizeShortSide,
    ResizeSquash,
)
from internvl_mm.utils.errors import DataError

BICUBIC = transforms.InterpolationMode.BICUBIC


def picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize('shape', [(60, 45), (33, 80), (28, 28), (20, 31)])
def test_evaluation_equals_the_published_pipeline_to_the_bit(shape: tuple[int, int]):
    """Decoded picture to normalised pixels: torchvision's first-generation transforms, as the recipe was written."""
    published = transforms.Compose(
        [
            transforms.Resize(28, interpolation=BICUBIC),
            transforms.CenterCrop(28),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    image = picture(*shape)
    pixels = Pipeline([dict(type=ResizeShortSide, size=28), dict(type=CenterCrop, size=28)])(image)
    batch = ImageDataPreprocessor()(dict(inputs=[pixels], data_samples=[]))['inputs']
    assert torch.equal(batch[0], published(image))


def test_short_side_becomes_exactly_the_size():
    assert ResizeShortSide(30)(picture(90, 45)).size == (60, 30)
    assert ResizeShortSide(30)(picture(1, 900)).size == (30, 27_000)
    with pytest.raises(DataError, match='60000×1 pixels, so oblong .* would have 3,010,560,000'):
        ResizeShortSide(224)(picture(60_000, 1))


def test_squash_is_pillows_bicubic():
    image = picture(61, 47)
    assert np.array_equal(ResizeSquash(24)(image), image.resize((24, 24), Image.Resampling.BICUBIC))


def test_training_equals_the_published_pipeline_for_the_same_random_numbers():
    published = transforms.Compose(
        [transforms.RandomResizedCrop(24, interpolation=BICUBIC), transforms.RandomHorizontalFlip()]
    )
    ours = Pipeline([dict(type=RandomResizedCrop, size=24), dict(type=RandomFlip)])
    for seed in range(8):
        image = picture(70, 50)
        torch.manual_seed(seed)
        expected = published(image)
        torch.manual_seed(seed)
        assert np.array_equal(ours(image).permute(1, 2, 0).numpy(), np.asarray(expected))


def test_training_settings_are_the_recipes():
    crop = RandomResizedCrop(24)
    theirs = create_transform(
        24, is_training=True, color_jitter=0, interpolation='bicubic', auto_augment=None
    )
    assert (tuple(crop.scale), tuple(crop.ratio)) == (theirs.transforms[0].scale, theirs.transforms[0].ratio)
    assert (tuple(crop.scale), tuple(crop.ratio)) == ((0.08, 1.0), (3 / 4, 4 / 3))
    assert RandomFlip().p == 0.5
