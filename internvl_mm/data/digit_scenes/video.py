"""Short videos: one digit moves across a fixed background, sometimes past a digit that rests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from internvl_mm.data.digit_scenes.digits import SourceDigits, check_split, load_source_digits
from internvl_mm.data.digit_scenes.palette import make_background, vary
from internvl_mm.data.digit_scenes.scene import (
    MAX_ROTATION,
    Placement,
    Scene,
    SceneDigit,
    Sprite,
    canvas_size,
    make_sprite,
    paint,
    sample_rng,
)

MIN_FRAMES, MAX_FRAMES = 4, 8
DIRECTIONS = ('right', 'left', 'down', 'up')


@dataclass(frozen=True, eq=False)
class Video:
    """A moving digit.

    Args:
        frames: 4–8 scenes of one size, in order.
        moving: Row (of scikit-learn's 1,797) of the scan that moves.
        direction: One of ``DIRECTIONS``.
    """

    frames: tuple[Scene, ...]
    moving: int
    direction: str

    def mover(self, frame: int) -> SceneDigit:
        """Return the moving digit as seen in one frame."""
        return next(digit for digit in self.frames[frame].digits if digit.source == self.moving)

    @property
    def resting(self) -> SceneDigit | None:
        """The digit that stays where it is, if there is one."""
        return next((digit for digit in self.frames[0].digits if digit.source != self.moving), None)


def video_at(split: str, *, seed: int, index: int, canvas: int | tuple[int, int] = 112) -> Video:
    """Return video number ``index``: the same video for the same arguments."""
    check_split(split)
    return compose_video(load_source_digits(split), sample_rng(seed, split, 'video', index), canvas)


def compose_video(
    digits: SourceDigits, rng: np.random.Generator, canvas: int | tuple[int, int] = 112
) -> Video:
    """Draw a video of one moving digit and, half of the time, a resting one of another value and colour.

    Args:
        digits: Scans to draw from.
        rng: Source of every random choice.
        canvas: Side, or (height, width), in pixels.
    """
    height, width = canvas_size(canvas)
    background = make_background(rng, height, width)
    moving = int(rng.integers(len(digits)))  # row among the scans
    # Of another value, so that "which digit moves?" has one answer.
    others = np.flatnonzero(digits.values != digits.values[moving])
    rows = [moving, int(rng.choice(others))][: 1 + int(rng.integers(2))]
    inks = rng.choice(len(background.inks), 2, replace=False)
    # At most 0.4 of the shorter side: both digits then fit into their halves of the canvas and never meet.
    sprites = [
        make_sprite(
            digits,
            row,
            vary(background.inks[ink], rng),
            min(height, width) * rng.uniform(0.28, 0.4),
            rng.uniform(-MAX_ROTATION, MAX_ROTATION),
        )
        for row, ink in zip(rows, inks)
    ]
    direction = DIRECTIONS[rng.integers(len(DIRECTIONS))]
    # `across` is the axis that the movement leaves alone: y for right and left, x for down and up.
    across = 0 if direction in ('right', 'left') else 1
    halves = rng.permutation(2)  # of the mover, of the resting digit
    path = _path(sprites[0], rng, (height, width), across, int(halves[0]))
    # Paths run rightwards or downwards; these two are the same ones backwards.
    if direction in ('left', 'up'):
        path = path[::-1]
    rest = [
        Placement(sprite, *_corner(sprite, rng, (height, width), across, int(halves[1])))
        for sprite in sprites[1:]
    ]
    frames = tuple(paint(background.pixels, [*rest, Placement(sprites[0], left, top)]) for left, top in path)
    return Video(frames, sprites[0].source, direction)


def _corner(
    sprite: Sprite, rng: np.random.Generator, size: tuple[int, int], across: int, half: int
) -> tuple[int, int]:
    """A random (left, top) for a sprite inside one half (0 or 1) of the canvas along axis ``across`` (0 = y, 1 = x)."""
    # y, x: anywhere on the canvas, then once more along `across`, within the half.
    corner = [int(rng.integers(side - extent + 1)) for side, extent in zip(size, sprite.alpha.shape)]
    middle = size[across] // 2
    corner[across] = half * middle + int(rng.integers(middle - sprite.alpha.shape[across] + 1))
    return corner[1], corner[0]


def _path(
    sprite: Sprite, rng: np.random.Generator, size: tuple[int, int], across: int, half: int
) -> list[tuple[int, int]]:
    """(left, top) per frame, rightwards or downwards over at least 60 % of the free way."""
    left, top = _corner(sprite, rng, size, across, half)
    along = 1 - across
    room = size[along] - sprite.alpha.shape[along]  # px
    steps = np.linspace(
        rng.uniform(0, 0.2) * room, rng.uniform(0.8, 1) * room, int(rng.integers(MIN_FRAMES, MAX_FRAMES + 1))
    )
    moved = np.round(steps).astype(int).tolist()
    return [(step, top) for step in moved] if across == 0 else [(left, step) for step in moved]
