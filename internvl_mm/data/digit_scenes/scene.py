"""Compose scenes of real digits: a pure function of the scans and a random generator.

Fast enough to draw fresh training images every epoch (0.5 ms for a 56×56 digit, 2 ms for a 112×112 scene).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from internvl_mm.data.digit_scenes.digits import SPLITS, SourceDigits, check_split, load_source_digits
from internvl_mm.data.digit_scenes.palette import Colour, make_background, vary
from internvl_mm.utils.errors import ConfigError, DataError

MAX_DIGITS = 5  # every digit of a scene has its own colour, and five inks are readable on a dark ground
MIN_VISIBLE = 0.85  # smallest visible share of a digit's pixels
MIN_CENTRE_GAP = (
    0.04  # smallest distance of two digits' centres along x, as a share of the width: reading order is clear
)
MIN_DIGIT_PIXELS = 10  # no digit is drawn smaller than this (an 8×8 scan at its own size)
MIN_CANVAS = 16

STREAMS = (
    'digit',
    'scene',
    'video',
    'text',
    'dialogue',
)  # independent random streams of one (seed, split, index)

# Ink is opaque from here on and absent below: turns the scan's grey into a smooth edge (share of full ink).
EDGE_LOW, EDGE_HIGH = 0.22, 0.58
MAX_ROTATION = np.deg2rad(12)  # small: a 6 must not become a 9
# The lone digit of a classification image: large, near the centre, nearly upright. At 0.62–0.84 of the canvas and
# anywhere on it, a 96-wide ViT of 4 blocks was at 73 % top-1 after 55 s of CPU training; with these at 85 % after 22 s.
LONE_SIZE, LONE_SHIFT, LONE_ROTATION = (0.78, 0.94), 0.06, np.deg2rad(8)  # shares of the canvas side; radians
PADDING = 2  # paper around the 8×8 scan, so that interpolation fades out and rotation cuts nothing off
PLACEMENTS, LAYOUTS, SHRINK = (
    24,
    10,
    0.88,
)  # tries per digit, tries per scene, digit size factor from try to try


class Sprite(NamedTuple):
    """One scan as ink: opacity float32 [h, w] in 0–1 (cropped to its ink), digit value, colour, row of the scan."""

    alpha: np.ndarray
    value: int
    colour: Colour
    source: int


class Placement(NamedTuple):
    """A sprite with its upper-left corner in pixels."""

    sprite: Sprite
    left: int
    top: int

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the canvas the sprite covers."""
        height, width = self.sprite.alpha.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


@dataclass(frozen=True, eq=False)
class SceneDigit:
    """One digit as it can be seen in a scene.

    Args:
        value: 0–9.
        box: Tight bounds (x1, y1, x2, y2) of ``mask`` in pixels, x2 and y2 exclusive.
        mask: bool [H, W], visible pixels.
        colour: Ink as painted, with its English and Chinese name; no two digits of a scene share a name.
        source: Row of the scan among scikit-learn's 1,797.
        visible: Share of the digit's pixels that no other digit hides, ≥ ``MIN_VISIBLE``.
    """

    value: int
    box: tuple[int, int, int, int]
    mask: np.ndarray
    colour: Colour
    source: int
    visible: float

    @property
    def centre(self) -> tuple[float, float]:
        """Centre (x, y) of the box in pixels."""
        x1, y1, x2, y2 = self.box
        return (x1 + x2) / 2, (y1 + y2) / 2


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture and everything that is in it.

    Args:
        image: uint8 [H, W, 3], RGB.
        digits: Digits from left to right (by box centre): the reading order.
    """

    image: np.ndarray
    digits: tuple[SceneDigit, ...]

    @property
    def height(self) -> int:
        """Rows of the picture."""
        return self.image.shape[0]

    @property
    def width(self) -> int:
        """Columns of the picture."""
        return self.image.shape[1]


def sample_rng(seed: int, split: str, stream: str, index: int) -> np.random.Generator:
    """Return the generator that owns all random choices of one sample, independent of every other sample's.

    Args:
        seed: Non-negative seed of the data set.
        split: ``train`` or ``test``.
        stream: One of ``STREAMS``.
        index: Number of the sample, ≥ 0 (use ``epoch * length + index`` for fresh samples every epoch).
    """
    return np.random.default_rng([seed, SPLITS.index(split), STREAMS.index(stream), index])


def digit_at(split: str, *, seed: int, index: int, canvas: int | tuple[int, int] = 56) -> Scene:
    """Return single-digit image number ``index``; consecutive indices walk through every scan of the split."""
    check_split(split)
    digits = load_source_digits(split)
    return compose_digit(digits, sample_rng(seed, split, 'digit', index), canvas, pick=index % len(digits))


def scene_at(
    split: str,
    *,
    seed: int,
    index: int,
    canvas: int | tuple[int, int] = 112,
    num_digits: tuple[int, int] = (1, MAX_DIGITS),
) -> Scene:
    """Return scene number ``index``: the same scene for the same arguments, wherever and whenever it is drawn."""
    check_split(split)
    rng = sample_rng(seed, split, 'scene', index)
    return compose_scene(load_source_digits(split), rng, canvas, num_digits)


def compose_digit(
    digits: SourceDigits,
    rng: np.random.Generator,
    canvas: int | tuple[int, int] = 56,
    *,
    pick: int | None = None,
    sizes: tuple[float, float] = LONE_SIZE,
    shift: float = LONE_SHIFT,
) -> Scene:
    """Draw one digit, by default large and near the centre: random ink, background, position, size, slight rotation.

    Args:
        digits: Scans to draw from.
        rng: Source of every random choice.
        canvas: Side, or (height, width), in pixels.
        pick: Which of ``digits``; by default one at random.
        sizes: Smallest and largest height of the scan, as shares of the shorter side of the canvas.
        shift: Largest distance from the centre along each axis, as a share of the side; the digit stays on the canvas,
            so that 0.5 is anywhere.

    Raises:
        ConfigError: ``sizes`` or ``shift`` lie outside of what a canvas can show.
    """
    height, width = canvas_size(canvas)
    check_placement(sizes, shift)
    background = make_background(rng, height, width)
    row = int(rng.integers(len(digits))) if pick is None else pick
    size = max(min(height, width) * rng.uniform(*sizes), MIN_DIGIT_PIXELS)
    colour = vary(background.inks[rng.integers(len(background.inks))], rng)
    sprite = make_sprite(digits, row, colour, size, rng.uniform(-LONE_ROTATION, LONE_ROTATION))
    while sprite.alpha.shape[0] > height or sprite.alpha.shape[1] > width:
        # Rotation can push a corner over the edge of the canvas; the next smaller size fits.
        size *= 0.95
        sprite = make_sprite(digits, row, colour, size, 0.0)
    corner = []  # y, then x
    for side, extent in zip((height, width), sprite.alpha.shape):
        wished = (side - extent) / 2 + side * rng.uniform(-shift, shift)
        corner.append(int(np.clip(round(wished), 0, side - extent)))
    return paint(background.pixels, [Placement(sprite, left=corner[1], top=corner[0])])


def compose_scene(
    digits: SourceDigits,
    rng: np.random.Generator,
    canvas: int | tuple[int, int] = 112,
    num_digits: tuple[int, int] = (1, MAX_DIGITS),
) -> Scene:
    """Draw a scene of several digits, each in another colour and at least ``MIN_VISIBLE`` visible.

    Args:
        digits: Scans to draw from.
        rng: Source of every random choice.
        canvas: Side, or (height, width), in pixels.
        num_digits: Fewest and most digits, within 1–5.

    Raises:
        ConfigError: ``num_digits`` is not a range within 1–5, or ``canvas`` is too small to be one.
        DataError: The digits do not fit on the canvas without hiding each other.
    """
    height, width = canvas_size(canvas)
    fewest, most = check_num_digits(num_digits)
    count = int(rng.integers(fewest, most + 1))
    background = make_background(rng, height, width)
    # Without replacement: no two digits of a scene share a colour.
    inks = rng.choice(len(background.inks), count, replace=False)
    colours = [vary(background.inks[ink], rng) for ink in inks]
    rows = rng.integers(len(digits), size=count)
    # Three and more digits have to share the canvas.
    largest = 0.5 if count <= 2 else 0.4
    sizes = min(height, width) * rng.uniform(0.28, largest, count)
    angles = rng.uniform(-MAX_ROTATION, MAX_ROTATION, count)
    for _ in range(LAYOUTS):
        sprites = [
            make_sprite(digits, int(row), colour, max(size, MIN_DIGIT_PIXELS), angle)
            for row, colour, size, angle in zip(rows, colours, sizes, angles)
        ]
        layout = _arrange(sprites, rng, height, width)
        if layout is not None:
            return paint(background.pixels, layout)
        sizes = sizes * SHRINK  # all of them, then places anew
    raise DataError(
        f'{count} digits do not fit on a canvas of {height}×{width} pixels with each at least '
        f'{MIN_VISIBLE:.0%} visible; use a larger canvas (112 is the default) or fewer digits.'
    )


def make_sprite(digits: SourceDigits, row: int, colour: Colour, size: float, angle: float) -> Sprite:
    """Enlarge one scan smoothly (bicubic) and turn it.

    Args:
        digits: Scans to take it from.
        row: Which of ``digits``.
        colour: Its ink.
        size: Height of the 8×8 scan after scaling, in pixels.
        angle: Clockwise rotation in radians.
    """
    scan = digits.scans[row]
    side = int(np.ceil(size * 1.35))  # room for the turned scan
    source_side = scan.shape[0] + 2 * PADDING  # 12
    # Inverse mapping, as Pillow wants it: where in the scan does output pixel (x, y) come from?
    cos, sin = np.cos(angle) * 8 / size, np.sin(angle) * 8 / size  # pixels of the scan per output pixel
    # The middle of the output comes from the middle of the scan.
    offset_x = source_side / 2 - (cos + sin) * side / 2
    offset_y = source_side / 2 - (cos - sin) * side / 2
    matrix = (cos, sin, offset_x, -sin, cos, offset_y)
    padded = np.zeros((source_side, source_side), np.uint8)
    padded[PADDING:-PADDING, PADDING:-PADDING] = scan * 15  # 0–16 to 0–240
    turned = Image.fromarray(padded).transform(
        (side, side), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC
    )
    ink = np.asarray(turned)  # uint8 [side, side], 0–240
    alpha = np.clip((ink.astype(np.float32) / 240 - EDGE_LOW) / (EDGE_HIGH - EDGE_LOW), 0, 1)
    x1, y1, x2, y2 = tight_box(alpha > 0)
    return Sprite(alpha[y1:y2, x1:x2], int(digits.values[row]), colour, int(digits.rows[row]))


def paint(background: np.ndarray, layout: list[Placement]) -> Scene:
    """Paint sprites over a background, later ones on top, and measure what stays visible.

    Args:
        background: float32 [H, W, 3], 0–255; not changed.
        layout: Sprites with their positions, all inside the canvas.
    """
    pixels = background.copy()
    for placement in layout:
        # A view: the sprite is blended into `pixels` itself.
        region, alpha = pixels[placement.window], placement.sprite.alpha[..., None]
        region += alpha * (np.array(placement.sprite.colour.rgb, np.float32) - region)
    masks = _visible_masks(layout, *pixels.shape[:2])  # bool [H, W] each
    seen = []
    for (sprite, _, _), mask in zip(layout, masks):
        # As in the masks, half opaque counts as ink.
        visible = float(mask.sum() / (sprite.alpha >= 0.5).sum())
        seen.append(SceneDigit(sprite.value, tight_box(mask), mask, sprite.colour, sprite.source, visible))
    # Digits by x, the order in which they are read.
    return Scene(np.round(pixels).astype(np.uint8), tuple(sorted(seen, key=lambda digit: digit.centre)))


def tight_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return (x1, y1, x2, y2) of the true pixels of ``mask`` [H, W], x2 and y2 exclusive."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def canvas_size(canvas: int | tuple[int, int]) -> tuple[int, int]:
    """Return (height, width) of a canvas given as a side or as a pair.

    Raises:
        ConfigError: A side is below 16 pixels.
    """
    height, width = (canvas, canvas) if isinstance(canvas, int) else canvas
    if min(height, width) < MIN_CANVAS:
        raise ConfigError(
            f'canvas={canvas} is too small: a digit needs at least {MIN_CANVAS} pixels. '
            f'Use e.g. 56 for one digit, 112 for scenes.'
        )
    return height, width


def check_placement(sizes: tuple[float, float], shift: float) -> None:
    """Refuse sizes and shifts of a lone digit that no canvas can show.

    Raises:
        ConfigError: ``sizes`` is not a range within (0, 1], or ``shift`` lies outside of [0, 0.5].
    """
    smallest, largest = sizes
    if not 0 < smallest <= largest <= 1:
        raise ConfigError(
            f'sizes={tuple(sizes)} must be (smallest, largest) with 0 < smallest ≤ largest ≤ 1.'
        )
    if not 0 <= shift <= 0.5:
        raise ConfigError(f'shift={shift} must lie between 0, the centre, and 0.5, anywhere on the canvas.')


def check_num_digits(num_digits: tuple[int, int]) -> tuple[int, int]:
    """Return ``num_digits`` if it is a range (fewest, most) within 1–5.

    Raises:
        ConfigError: It is not.
    """
    fewest, most = num_digits
    if not 1 <= fewest <= most <= MAX_DIGITS:
        raise ConfigError(
            f'num_digits={num_digits} must be (fewest, most) with 1 ≤ fewest ≤ most ≤ {MAX_DIGITS}.'
        )
    return num_digits


def _place(sprite: Sprite, rng: np.random.Generator, height: int, width: int) -> Placement:
    room_y, room_x = height - sprite.alpha.shape[0], width - sprite.alpha.shape[1]
    return Placement(sprite, int(rng.integers(room_x + 1)), int(rng.integers(room_y + 1)))


def _arrange(
    sprites: list[Sprite], rng: np.random.Generator, height: int, width: int
) -> list[Placement] | None:
    """Find places with bounded overlap and clear reading order by rejection; None when none was found."""
    layout: list[Placement] = []
    if any(sprite.alpha.shape[0] > height or sprite.alpha.shape[1] > width for sprite in sprites):
        return None
    for sprite in sprites:
        for _ in range(PLACEMENTS):
            candidate = [*layout, _place(sprite, rng, height, width)]
            if _is_readable(candidate, height, width):
                layout = candidate
                break
        else:
            return None
    return layout


def _is_readable(layout: list[Placement], height: int, width: int) -> bool:
    """Whether every digit is visible enough and no two are so nearly above each other that order is unclear."""
    masks = _visible_masks(layout, height, width)
    for (sprite, _, _), mask in zip(layout, masks):
        if mask.sum() < MIN_VISIBLE * (sprite.alpha >= 0.5).sum():
            return False
    boxes = [tight_box(mask) for mask in masks]
    centres = np.sort([(x1 + x2) / 2 for x1, _, x2, _ in boxes])
    return bool((np.diff(centres) >= MIN_CENTRE_GAP * width).all())


def _visible_masks(layout: list[Placement], height: int, width: int) -> list[np.ndarray]:
    """Visible pixels bool [H, W] of each sprite: those at least half opaque and not under a later sprite."""
    masks = []
    for placement in layout:
        solid = placement.sprite.alpha >= 0.5
        for below in masks:
            below[placement.window] &= ~solid
        mask = np.zeros((height, width), bool)
        mask[placement.window] = solid
        masks.append(mask)
    return masks
