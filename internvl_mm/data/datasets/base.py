"""The dataset slot for labelled images: what every data set promises."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from internvl_mm.data.decode import ImageDecoder, decoder_of
from internvl_mm.data.pipeline import Pipeline, Transform
from internvl_mm.data.samplers import SampleIndex
from internvl_mm.data.seeding import seeded
from internvl_mm.structures import ImageSample
from internvl_mm.utils.errors import DataError
from internvl_mm.utils.hashing import hash_settings

from .guarded import GuardedDataset, Item, OnError


class BaseDataset(GuardedDataset):
    """Index to one labelled image.

    A subclass finds its samples in ``__init__``, hands their labels to this class, and implements :meth:`read` and
    :meth:`path`. Everything else (decoding, transforms, bad samples, reproducible randomness) happens here.

    ``dataset[index]`` is ``dict(inputs=uint8 Tensor[3, H, W], data_samples=ImageSample)``, or a :class:`BadSample`; see
    :class:`GuardedDataset`.

    Args:
        targets: Class index of every sample.
        classes: Names of all classes; their number bounds the labels.
        name: Name in results, ledgers and reports; the class's name by default.
        transform: From PIL image to PIL image or uint8 tensor, see :class:`Pipeline`.
        decoder: An :class:`ImageDecoder` or its config.
        on_error: What a bad sample does, see :class:`GuardedDataset`.

    Attributes:
        targets: int64 array ``[len]``.
        classes: Tuple of class names.
        metainfo: ``dict(name, classes)``, for metrics and reports.

    Raises:
        DataError: There is no sample, or (under ``'fail'``) a label is out of range.
    """

    def __init__(
        self,
        targets: Sequence[int] | np.ndarray,
        classes: Sequence[str],
        *,
        name: str | None = None,
        transform: Sequence[Transform] = (),
        decoder: ImageDecoder | dict | None = None,
        on_error: OnError = 'fail',
    ):
        super().__init__(name=name, on_error=on_error)
        # Arrays rather than lists: worker processes share their memory, while lists are copied by reference counting.
        self.targets = np.asarray(targets, np.int64)
        self.classes = tuple(classes)
        self.transform = Pipeline(transform)
        self.decoder = decoder_of(decoder)
        if len(self) == 0:
            raise DataError(f"data set '{self.name}' has no samples")
        # All labels at once: a wrong num_classes is told before the first epoch, not somewhere in it.
        if on_error == 'fail':
            outside = np.flatnonzero((self.targets < 0) | (self.targets >= self.num_classes))
            for index in outside[:1].tolist():
                self._check_label(index)

    @abstractmethod
    def read(self, index: SampleIndex) -> bytes | Path | Image.Image:
        """The image of one sample: bytes of its file, its path, or a picture made on the fly.

        Raises:
            DataError: It cannot be read.
        """

    @abstractmethod
    def path(self, index: int) -> str | None:
        """Where a sample comes from, for messages and reports; ``None`` if it has no file."""

    def annotate(self, sample: ImageSample, index: int) -> None:
        """Add further labels to a sample; by default none."""

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def metainfo(self) -> dict[str, Any]:
        """What metrics and reports need to know."""
        return dict(name=self.name, classes=self.classes)

    def fingerprint(self) -> str:
        """Hash of what decides the samples: paths, labels, decoder, transform (not the bytes in the files)."""
        # Hashed by themselves: a list of a million paths would first become one JSON text.
        paths = hashlib.sha256('\n'.join(str(self.path(index)) for index in range(len(self))).encode())
        return hash_settings(
            dict(
                dataset=[type(self).__qualname__, self.name, self._identity()],
                labels=[hashlib.sha256(self.targets.tobytes()).hexdigest(), self.classes],
                paths=paths.hexdigest(),
                decoder=repr(self.decoder),
                transform=self.transform.settings,
            )
        )

    def _identity(self) -> Any:
        """What else decides the samples of a data set, where paths and labels do not say it all."""

    def __len__(self) -> int:
        return len(self.targets)

    def load(self, index: SampleIndex) -> Item:
        """See :class:`GuardedDataset`."""
        # Not at the start under 'skip' and 'replace', where one bad label must not end the run.
        self._check_label(index)
        source = self.read(index)
        image = source if isinstance(source, Image.Image) else self.decoder(source, self.path(index))
        # Transforms draw from the global generators; the state of the process must not decide what they draw.
        with seeded(index.seed, index.epoch, index):
            inputs = self.transform(image)
        sample = ImageSample.labelled(
            int(self.targets[index]), dataset=self.name, index=int(index), path=self.path(index)
        )
        # Batch augmentation draws by epoch and index, see Mixing.
        sample.set_metainfo(dict(epoch=index.epoch))
        self.annotate(sample, index)
        return dict(inputs=inputs, data_samples=sample)

    def _check_label(self, index: int) -> None:
        label = int(self.targets[index])
        if not 0 <= label < self.num_classes:
            raise DataError(
                f"label {label} of sample {int(index)} ({self.path(index)}) of data set '{self.name}' is outside its "
                f'{self.num_classes} classes (0 to {self.num_classes - 1}); correct the label, or num_classes'
            )


def numbered_classes(num_classes: int) -> tuple[str, ...]:
    """Names of classes that have none: their numbers."""
    return tuple(str(number) for number in range(num_classes))
