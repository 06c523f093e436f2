"""Handwritten digits with a caption each, drawn on the fly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from internvl_mm.data.captions import Pair
from internvl_mm.data.datasets.guarded import Item
from internvl_mm.data.datasets.image_text import ImageTextDataset
from internvl_mm.data.digit_scenes.captions import describe
from internvl_mm.data.digit_scenes.digits import check_split, load_source_digits
from internvl_mm.data.digit_scenes.language import check_languages
from internvl_mm.data.digit_scenes.scene import (
    LONE_SHIFT,
    LONE_SIZE,
    Scene,
    check_placement,
    compose_digit,
    sample_rng,
)
from internvl_mm.data.samplers import SampleIndex
from internvl_mm.registry import DATASETS
from internvl_mm.utils.checks import check_counts
from internvl_mm.utils.errors import ConfigError


@DATASETS.register_module()
class DigitCaptionDataset(ImageTextDataset):
    """Pictures of one real digit each with a true caption; train and test share no scan.

    The pictures are those of :class:`~internvl_mm.data.datasets.DigitSceneDataset` with the same settings. In the
    ``train`` split picture, language and kind of caption change every epoch; in ``test`` they never do.

    Args:
        split: ``'train'`` (1,437 scans) or ``'test'`` (360 scans).
        size: Side of the pictures in pixels.
        length: Samples per epoch; by default one per scan.
        seed: Seed of the data set.
        languages: ``'en'``, ``'zh'`` or both.
        kinds: Which of the five captions of a picture may be taken, 0 to 4.
        sizes: Smallest and largest digit, as shares of ``size``.
        shift: How far from the centre a digit may lie, as a share of ``size``; 0.5 is anywhere.
        options: See :class:`ImageTextDataset`.
    """

    def __init__(
        self,
        split: Literal['train', 'test'],
        *,
        size: int = 56,
        length: int | None = None,
        seed: int = 0,
        languages: Sequence[str] = ('en',),
        kinds: Sequence[int] = (0, 1, 2, 3, 4),
        sizes: tuple[float, float] = LONE_SIZE,
        shift: float = LONE_SHIFT,
        **options: Any,
    ):
        check_split(split)
        check_placement(sizes, shift)
        if length is not None:
            check_counts(length=length)
        check_languages(languages)
        if not kinds or not set(kinds) <= set(range(5)):
            raise ConfigError(f'kinds={tuple(kinds)}: choose from the five captions 0 to 4 of a picture')
        self.split, self.size, self.seed = split, size, seed
        self.languages, self.kinds = tuple(languages), tuple(kinds)
        self.placement: dict[str, Any] = dict(sizes=tuple(sizes), shift=shift)
        # Shared by all data sets of a split: the scans are loaded once per process.
        self._digits = load_source_digits(split)
        # Caption and picture are asked for one after the other.
        self._last: tuple[int, Scene] | None = None
        count = length or len(self._digits)
        # Captions follow from the pictures, which are drawn when they are asked for.
        super().__init__([Pair('', '-', str(number), {}) for number in range(count)], **options)

    def path(self, index: int) -> None:
        """These pictures have no file."""

    def fingerprint(self) -> str:
        """See :class:`GuardedDataset`."""
        drawn = (self.split, self.size, self.seed, self.languages, self.kinds, *self.placement.values())
        return '-'.join(map(str, (super().fingerprint(), *drawn)))

    def image_fingerprint(self) -> str:
        """See :class:`ImageTextDataset`."""
        # Without languages and kinds, which choose captions and never pixels.
        return f'{self.split}-{self.size}-{self.seed}-{len(self)}-{self.placement}'

    def caption(self, index: int) -> str:
        """See :class:`ImageTextDataset`; of the epoch of the index."""
        number = index if isinstance(index, SampleIndex) else SampleIndex(index, self.epoch)
        return self._pick(number, self._scene(number))

    def read(self, index: SampleIndex) -> Image.Image:
        """See :class:`ImageTextDataset`."""
        return Image.fromarray(self._scene(index).image)

    def load(self, index: SampleIndex) -> Item:
        """See :class:`GuardedDataset`; also labels the digit, so that zero-shot accuracy can be measured.

        Samples say the ``language`` of their caption.
        """
        item = super().load(index)
        value = int(self._digits.values[int(index) % len(self._digits)])
        item['data_samples'].gt_label = torch.tensor([value])  # int64 [1]
        item['data_samples'].set_metainfo(dict(language=self._choice(index)[0]))
        return item

    def _scene(self, index: SampleIndex) -> Scene:
        # Numbered on through the epochs: a new picture of the same scan in each.
        number = self._epoch(index) * len(self) + int(index)
        if self._last is None or self._last[0] != number:
            rng = sample_rng(self.seed, self.split, 'digit', number)
            pick = int(index) % len(self._digits)
            scene = compose_digit(self._digits, rng, self.size, pick=pick, **self.placement)
            self._last = number, scene
        return self._last[1]

    def _choice(self, index: SampleIndex) -> tuple[str, int]:
        """Language and kind of the caption of an index."""
        # The 2 sets it apart from the generators of negatives (1) and transforms (none).
        draws = np.random.default_rng([self.seed, self._epoch(index), int(index), 2])
        language = self.languages[draws.integers(len(self.languages))]
        return language, self.kinds[draws.integers(len(self.kinds))]

    def _pick(self, index: SampleIndex, scene: Scene) -> str:
        language, kind = self._choice(index)
        text = describe(scene, language)[kind]
        return self.caption_transform(text) if self.caption_transform is not None else text

    def _epoch(self, index: SampleIndex) -> int:
        return index.epoch if self.split == 'train' else 0
