"""Pictures to describe: one sample per image, with every true caption as a reference."""

from __future__ import annotations

from typing import Any

from internvl_mm.data.captions import Pair
from internvl_mm.data.datasets.digit_captions import DigitCaptionDataset
from internvl_mm.data.datasets.guarded import Item
from internvl_mm.data.datasets.image_text import CaptionListDataset
from internvl_mm.data.digit_scenes.captions import describe
from internvl_mm.data.samplers import SampleIndex
from internvl_mm.registry import DATASETS
from internvl_mm.utils.errors import DataError
from internvl_mm.utils.paths import ExistingFile, ExistingFolder


@DATASETS.register_module()
class CaptioningDataset(CaptionListDataset):
    """The images of a caption file, each once, with all its captions as ``references``.

    Samples also carry ``language``, which decides the prompt a caption is generated from.

    Args:
        root: See :class:`CaptionListDataset`.
        file: See :func:`~internvl_mm.data.captions.read_pairs`; COCO Karpathy's, Flickr30k's and NoCaps's files are of
            these forms.
        language: Code of the language of the captions.
        options: See :class:`CaptionListDataset`.

    Raises:
        DataError: An image has no caption with a letter.
    """

    def __init__(self, root: ExistingFolder, file: ExistingFile, *, language: str = 'en', **options: Any):
        self.language = language
        # Before the base class, whose __init__ calls keep(), which fills it.
        self.references: list[list[str]] = []
        super().__init__(root, file, **options)

    def keep(self, pairs: list[Pair]) -> list[Pair]:
        """One pair of each image, the first that has a caption; the captions of all go to :attr:`references`."""
        groups: dict[str, list[Pair]] = {}
        for pair in pairs:
            groups.setdefault(pair.image_id, []).append(pair)
        kept = []
        for group in groups.values():
            # Empty references would count as a sentence of no words, which pulls every score down.
            worded = [pair for pair in group if pair.caption.strip()]
            if not worded:
                raise DataError(f'{group[0].image}: nothing to compare with, all its captions are empty')
            kept.append(worded[0])
            self.references.append([pair.caption for pair in worded])
        return kept

    def load(self, index: SampleIndex) -> Item:
        """See :class:`GuardedDataset`."""
        item = super().load(index)
        found = dict(references=self.references[int(index)], language=self.language)
        item['data_samples'].set_metainfo(found)
        return item


@DATASETS.register_module()
class DigitCaptioningDataset(DigitCaptionDataset):
    """Pictures of one digit with all true captions of the chosen kinds in one language as ``references``.

    Args:
        language: ``'en'`` or ``'zh'``.
        options: See :class:`DigitCaptionDataset`.
    """

    def __init__(self, *, language: str = 'en', **options: Any):
        super().__init__(languages=(language,), **options)

    def load(self, index: SampleIndex) -> Item:
        """See :class:`GuardedDataset`."""
        item = super().load(index)
        # All are true of the picture, whichever was drawn as its caption.
        captions = describe(self._scene(index), self.languages[0])
        item['data_samples'].set_metainfo(dict(references=[captions[kind] for kind in self.kinds]))
        return item
