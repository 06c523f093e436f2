"""Single handwritten digits, drawn on the fly."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from PIL import Image

from internvl_mm.data.datasets.base import BaseDataset, numbered_classes
from internvl_mm.data.digit_scenes.digits import check_split, load_source_digits
from internvl_mm.data.digit_scenes.scene import (
    LONE_SHIFT,
    LONE_SIZE,
    check_placement,
    compose_digit,
    sample_rng,
)
from internvl_mm.data.samplers import SampleIndex
from internvl_mm.registry import DATASETS
from internvl_mm.utils.checks import check_counts


@DATASETS.register_module()
class DigitSceneDataset(BaseDataset):
    """Pictures of one real digit each, drawn when they are asked for; train and test share no scan.

    The ``train`` split draws fresh pictures every epoch; its first epoch, and ``test`` always, are the pictures that
    the converter writes to disk for the same seed.

    Args:
        split: ``'train'`` (1,437 scans) or ``'test'`` (360 scans).
        size: Side of the pictures in pixels.
        length: Samples per epoch; by default one per scan.
        seed: Seed of the data set.
        sizes: Smallest and largest digit, as shares of ``size``.
        shift: How far from the centre a digit may lie, as a share of ``size``; 0.5 is anywhere.
        options: See :class:`BaseDataset`.
    """

    def __init__(
        self,
        split: Literal['train', 'test'],
        *,
        size: int = 56,
        length: int | None = None,
        seed: int = 0,
        sizes: tuple[float, float] = LONE_SIZE,
        shift: float = LONE_SHIFT,
        **options: Any,
    ):
        check_split(split)
        check_placement(sizes, shift)
        if length is not None:
            check_counts(length=length)
        self.split = split
        self.size = size
        self.seed = seed
        self.placement: dict[str, Any] = dict(sizes=tuple(sizes), shift=shift)
        self._digits = load_source_digits(split)
        # Every scan in turn, so that classes come about as often as in the source.
        scans = np.arange(length or len(self._digits)) % len(self._digits)
        super().__init__(self._digits.values[scans], numbered_classes(10), **options)

    def path(self, index: int) -> None:
        """These pictures have no file."""

    def _identity(self) -> tuple[object, ...]:
        return self.split, self.size, self.seed, *self.placement.values()

    def read(self, index: SampleIndex) -> Image.Image:
        """See :class:`BaseDataset`."""
        # Training sees every scan drawn anew in each epoch, evaluation always the same pictures.
        epoch = index.epoch if self.split == 'train' else 0
        rng = sample_rng(self.seed, self.split, 'digit', epoch * len(self) + index)
        # The scan whose value is the label.
        scene = compose_digit(self._digits, rng, self.size, pick=index % len(self._digits), **self.placement)
        return Image.fromarray(scene.image)
