"""Data sets of mmsegmentation and mmdetection under our policy for bad samples and our reproducible randomness."""

from __future__ import annotations

import hashlib
from typing import Any

import cv2
from mmengine.dataset import BaseDataset as MMBaseDataset
from torch.utils.data import Dataset

from internvl_mm.data.samplers import SampleIndex
from internvl_mm.data.seeding import seeded
from internvl_mm.registry import DATASETS
from internvl_mm.utils.errors import DataError, UserError
from internvl_mm.utils.hashing import hash_settings

from .guarded import GuardedDataset, Item, OnError

# What building one of their data sets raises for files that are missing or broken, and for classes that do not fit.
_UNUSABLE = (OSError, ValueError, KeyError, AssertionError)


@DATASETS.register_module()
class OpenMMLabDataset(GuardedDataset):
    """A data set of mmseg or mmdet, with all it can do, that keeps the promises of ours.

    ``dataset[index]`` is ``dict(inputs=uint8 Tensor[3, H, W], data_samples=...)`` as ``PackSegInputs`` or
    ``PackDetInputs`` made it, its metainfo extended by ``dataset``, ``index``, ``path`` and ``epoch``. All randomness
    of the pipeline is a function of (seed, epoch, index). A pipeline that gives nothing makes a bad sample; theirs
    would silently draw another one.

    Args:
        dataset: The data set, or a wrapper such as ``ClassBalancedDataset``; or its config. Its ``test_mode`` has no
            effect on reading.
        name: Name in results, ledgers and reports; the wrapped class's name by default.
        on_error: What a bad sample does, see :class:`GuardedDataset`.

    Attributes:
        dataset: What is wrapped.
        classes: Tuple of class names.

    Raises:
        DataError: The data set cannot be built from its files, or has no samples.
    """

    def __init__(
        self, dataset: MMBaseDataset | Dataset | dict, *, name: str | None = None, on_error: OnError = 'fail'
    ):
        self.dataset: Any = _build(dataset) if isinstance(dataset, dict) else dataset
        super().__init__(name=name or type(self.dataset).__name__, on_error=on_error)
        # A copy: metainfo is copied deeply by every access.
        self._theirs = dict(self.dataset.metainfo)
        self.classes = tuple(self._theirs.get('classes') or ())
        if len(self) == 0:
            raise DataError(
                f"data set '{self.name}' has no samples: check data_root, data_prefix, the suffixes and, for lists of "
                'files, ann_file'
            )

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def metainfo(self) -> dict[str, Any]:
        """Everything the wrapped data set says about itself, with ``name`` and ``classes`` as ours have them."""
        return dict(self._theirs, name=self.name, classes=self.classes)

    def path(self, index: int) -> str | None:
        """See :class:`GuardedDataset`."""
        return self.dataset.get_data_info(int(index)).get('img_path')

    def fingerprint(self) -> str:
        """Hash of files, annotations, classes and pipeline."""
        annotations = hashlib.sha256()
        for index in range(len(self)):
            annotations.update(repr(self.dataset.get_data_info(index)).encode())
        pipeline = repr(getattr(self.dataset, 'pipeline', None))
        return hash_settings([self.name, self.classes, annotations.hexdigest(), pipeline])

    def load(self, index: SampleIndex) -> Item:
        """See :class:`GuardedDataset`."""
        with seeded(index.seed, index.epoch, index):
            try:
                # Our own transforms (UserError) say what is wrong already; only theirs are translated.
                # Their transforms draw from the global generators of Python and NumPy.
                item = self._prepare(int(index))
            except UserError:
                raise
            except (OSError, cv2.error) as error:
                raise DataError(f'{self._called(index)} cannot be read ({error})') from error
        if item is None:
            raise DataError(
                f'{self._called(index)}: the pipeline gave nothing, as random crops do when no object is left; for '
                "training use on_error='replace', and filter_cfg to leave out images without annotations"
            )
        item['data_samples'].set_metainfo(
            dict(dataset=self.name, index=int(index), path=self.path(index), epoch=index.epoch)
        )
        return item

    def _prepare(self, index: int) -> Item | None:
        # Its own __getitem__, which may put another sample in place of one that fails.
        if not hasattr(self.dataset, 'pipeline'):  # a wrapper
            return self.dataset[index]
        # What their prepare_data does, with the classes beside the annotation: LoadSegMap checks labels against them.
        return self.dataset.pipeline(dict(self.dataset.get_data_info(index), classes=self.classes))

    def _called(self, index: int) -> str:
        return f"sample {int(index)} ({self.path(index)}) of data set '{self.name}'"


def _build(dataset: dict) -> Dataset:
    kind = getattr(dataset['type'], '__name__', dataset['type'])
    try:
        return DATASETS.build(dataset)
    except UserError:
        raise
    except _UNUSABLE as error:
        raise DataError(
            f'{kind} cannot be built from its files: {error}. Check that data_root, data_prefix, the suffixes and '
            'ann_file lead to any files, and that metainfo names classes the annotations have'
        ) from error
