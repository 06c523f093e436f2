"""Everything a DigitScenes data set on disk depends on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from internvl_mm.data.digit_scenes.scene import (
    MAX_DIGITS,
    Scene,
    canvas_size,
    check_num_digits,
    digit_at,
    scene_at,
)
from internvl_mm.data.digit_scenes.video import Video, video_at
from internvl_mm.utils.errors import ConfigError

# A quarter as many text samples and an eighth as many videos as scenes: enough to learn from, small on disk.
TEXT_SHARE, VIDEO_SHARE = 4, 8


@dataclass(frozen=True)
class DigitSceneSettings:
    """What to write; equal settings give equal data.

    Args:
        train_size: Training scenes, and training images for classification; 1,437 uses every training scan once.
        test_size: The same for testing; 360 uses every test scan once.
        canvas: Side of scenes and videos in pixels.
        digit_canvas: Side of single-digit images in pixels.
        max_digits: Most digits in a scene, 1–5.
        seed: Seed of every random choice, ≥ 0.

    Raises:
        ConfigError: A value is out of its range.
    """

    train_size: int = 1437  # as many as there are scans for it
    test_size: int = 360
    canvas: int = 112
    digit_canvas: int = 56
    max_digits: int = MAX_DIGITS
    seed: int = 0

    def __post_init__(self) -> None:
        for setting, least in (('train_size', 1), ('test_size', 1), ('seed', 0)):
            if getattr(self, setting) < least:
                raise ConfigError(f'{setting}={getattr(self, setting)} must be at least {least}.')
        canvas_size(self.canvas)
        canvas_size(self.digit_canvas)
        check_num_digits((1, self.max_digits))

    def size(self, split: str) -> int:
        """Number of scenes in a split."""
        return self.train_size if split == 'train' else self.test_size

    def texts(self, split: str) -> int:
        """Number of text-only conversations in a split."""
        # Rounded up, so that the smallest set has one, too.
        return -(-self.size(split) // TEXT_SHARE)

    def digits(self, split: str) -> Iterator[Scene]:
        """Single-digit images of a split, in order."""
        for index in range(self.size(split)):
            yield digit_at(split, seed=self.seed, index=index, canvas=self.digit_canvas)

    def scenes(self, split: str) -> Iterator[Scene]:
        """Scenes of a split, in order."""
        for index in range(self.size(split)):
            yield scene_at(
                split, seed=self.seed, index=index, canvas=self.canvas, num_digits=(1, self.max_digits)
            )

    def videos(self, split: str) -> Iterator[Video]:
        """Videos of a split, in order."""
        # Rounded up, so that the smallest set has one, too.
        for index in range(-(-self.size(split) // VIDEO_SHARE)):
            yield video_at(split, seed=self.seed, index=index, canvas=self.canvas)
