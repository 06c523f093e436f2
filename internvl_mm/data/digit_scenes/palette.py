"""Named ink colours and varied backgrounds, chosen so that a digit always stands out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image


class Colour(NamedTuple):
    """An ink colour: English name, Chinese name, RGB 0–255."""

    en: str
    zh: str
    rgb: tuple[int, int, int]


# Luma of the dark inks is at most 90, of the light inks at least 160; five or more of each, so that the digits of one
# scene (at most five) all have different colours and "the red digit" is never ambiguous.
DARK_INKS = (
    Colour('red', '红色', (206, 20, 38)),
    Colour('green', '绿色', (10, 128, 52)),
    Colour('blue', '蓝色', (28, 62, 224)),
    Colour('purple', '紫色', (132, 38, 178)),
    Colour('brown', '棕色', (124, 72, 24)),
    Colour('black', '黑色', (16, 16, 20)),
)
LIGHT_INKS = (
    Colour('white', '白色', (250, 250, 250)),
    Colour('yellow', '黄色', (252, 224, 40)),
    Colour('orange', '橙色', (255, 142, 22)),
    Colour('pink', '粉色', (255, 156, 204)),
    Colour('cyan', '青色', (60, 214, 226)),
)
INKS = DARK_INKS + LIGHT_INKS

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
MIN_CONTRAST = 80  # luma levels between any ink and any background pixel, jitter of the ink included
DARK_GROUND, LIGHT_GROUND = (18, 48), (202, 236)  # luma of the base colour
GRADIENT, TEXTURE = 14, 9  # largest luma change by shading and by texture


def vary(colour: Colour, rng: np.random.Generator) -> Colour:
    """Return the colour with each channel changed by up to 10 levels, under the same name."""
    rgb = np.clip(np.array(colour.rgb) + rng.integers(-10, 11, 3), 0, 255)
    return colour._replace(rgb=tuple(rgb.tolist()))


class Background(NamedTuple):
    """A background (float32 [H, W, 3], 0–255) and the inks that are readable on it."""

    pixels: np.ndarray
    inks: tuple[Colour, ...]


def make_background(rng: np.random.Generator, height: int, width: int) -> Background:
    """Draw a light or dark tinted background with shading and one of four textures.

    Args:
        rng: Source of every random choice.
        height: Pixels.
        width: Pixels.
    """
    dark = rng.random() < 0.5
    tint = rng.uniform(-28, 28, 3).astype(np.float32)  # levels of R, G and B
    # The tint gives back its own luma, so that the contrast to the ink stays.
    base = rng.uniform(*(DARK_GROUND if dark else LIGHT_GROUND)) + tint - tint @ LUMA
    # Rows y and columns x in [-1, 1]; kept as [H, 1] and [1, W] so that broadcasting does the work.
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    angle = rng.uniform(0, 2 * np.pi)
    # cos·x + sin·y reaches √2 in the corners.
    shading = GRADIENT / np.sqrt(2) * (np.cos(angle) * x + np.sin(angle) * y)
    shade = shading * rng.random() + _texture(rng, x, y)  # [H, W]
    return Background(np.clip(base + shade[..., None], 0, 255), LIGHT_INKS if dark else DARK_INKS)


def _texture(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Plain, stripes, checks or soft blobs: float32 [H, W] within ±TEXTURE."""
    strength, kind = TEXTURE * rng.uniform(0.4, 1), rng.integers(4)
    # Radians per unit, and the picture is two units wide: 1.3 to 3.8 waves across.
    frequency, phase = rng.uniform(4, 12), rng.uniform(0, 2 * np.pi)
    if kind == 0:  # plain
        return np.zeros((y.size, x.size), np.float32)
    if kind == 1:  # stripes
        slant = rng.uniform(0, np.pi)
        return strength * np.sin(frequency * (np.cos(slant) * x + np.sin(slant) * y) + phase)
    if kind == 2:  # checks
        return strength * np.sign(np.sin(frequency * x + phase) * np.sin(frequency * y + phase))
    # Soft blobs: 6 × 6 random values, blown up to the picture.
    blobs = Image.fromarray(rng.random((6, 6), np.float32) * 2 - 1).resize(
        (x.size, y.size), Image.Resampling.BILINEAR
    )
    return strength * np.asarray(blobs)
