"""Data sets that torchvision reads, with our decoding of labels, transforms and errors."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from PIL import Image
from torchvision import datasets

from internvl_mm.data.datasets.base import BaseDataset
from internvl_mm.data.datasets.paths import check_folder
from internvl_mm.data.samplers import SampleIndex
from internvl_mm.registry import DATASETS
from internvl_mm.utils.errors import DataError, did_you_mean
from internvl_mm.utils.paths import ExistingFolder

TorchvisionKind = Literal[
    'CIFAR10', 'CIFAR100', 'Country211', 'DTD', 'EuroSAT', 'FGVCAircraft', 'Flowers102', 'Food101', 'GTSRB', 'MNIST',
    'OxfordIIITPet', 'RenderedSST2', 'STL10', 'SUN397', 'StanfordCars',
]  # fmt: skip
# Of each kind the arguments that choose the published pictures. EuroSAT and SUN397 have no split: all pictures.
_CHOICE: dict[str, dict[str, Any]] = dict(
    CIFAR10=dict(train=False),  # 10,000 pictures
    CIFAR100=dict(train=False),  # 10,000
    Country211=dict(split='test'),  # 21,100
    DTD=dict(split='test', partition=1),  # 1,880; each of the ten partitions has as many
    EuroSAT={},  # 27,000
    # 3,333; 'variant' is the level with 100 classes
    FGVCAircraft=dict(split='test', annotation_level='variant'),
    Flowers102=dict(split='test'),  # 6,149
    Food101=dict(split='test'),  # 25,250
    GTSRB=dict(split='test'),  # 12,630
    MNIST=dict(train=False),  # 10,000
    OxfordIIITPet=dict(split='test', target_types='category'),  # 3,669
    RenderedSST2=dict(split='test'),  # 1,821
    STL10=dict(split='test'),  # 8,000
    SUN397={},  # 108,754
    StanfordCars=dict(split='test'),  # 8,041
)
# What to learn from, where there is a split: the largest part without test pictures.
_TRAINING: dict[str, dict[str, Any]] = {
    **{kind: dict(train=True) for kind in ('CIFAR10', 'CIFAR100', 'MNIST')},
    **{kind: dict(_CHOICE[kind], split='trainval') for kind in ('FGVCAircraft', 'OxfordIIITPet')},
    **{
        kind: dict(_CHOICE[kind], split='train')
        for kind in (
            'Country211',
            'DTD',
            'Flowers102',
            'Food101',
            'GTSRB',
            'RenderedSST2',
            'STL10',
            'StanfordCars',
        )
    },
}
# Where torchvision 0.25 to 0.29 keep labels, without which every picture would be decoded to list them.
_LABELS = ('targets', 'labels', '_labels', '_samples')


@DATASETS.register_module()
class TorchvisionDataset(BaseDataset):
    """The evaluation split of a data set in the layout torchvision downloads.

    Args:
        kind: Name of the class in ``torchvision.datasets``.
        root: Its ``root``, the folder torchvision downloads into. Nothing is downloaded here; docs/zero_shot.md has
            the commands.
        split: ``'test'``: the pictures of the published evaluations; ``'train'``: those to train probes on.
        options: See :class:`BaseDataset`.

    Raises:
        DataError: Another kind or split, or the folder is not what torchvision's class reads.
    """

    def __init__(
        self,
        kind: TorchvisionKind,
        root: ExistingFolder,
        *,
        split: Literal['test', 'train'] = 'test',
        **options: Any,
    ):
        if kind not in _CHOICE:
            raise DataError(f"kind='{kind}' is none of {', '.join(_CHOICE)}.{did_you_mean(kind, _CHOICE)}")
        if split not in ('test', 'train'):
            raise DataError(f"split='{split}': use 'test', or 'train' for what probes learn from")
        choice = (_CHOICE if split == 'test' else _TRAINING).get(kind)
        if choice is None:
            raise DataError(f"{kind} has no split='{split}': its published evaluation takes all pictures")
        check_folder(root, f"what torchvision.datasets.{kind}('{root}', download=True) writes")
        try:
            self._source = getattr(datasets, kind)(str(root), **choice)
        except (RuntimeError, OSError, ValueError) as error:
            raise DataError(
                f"folder '{root}' does not hold {kind} as torchvision reads it ({error}): download it with "
                f"torchvision.datasets.{kind}('{root}', download=True), or see docs/zero_shot.md"
            ) from error
        self._kind, self._identity_of = kind, [str(root), split]
        labels = _labels(self._source)
        super().__init__(labels, _classes(self._source, labels), **options)

    def path(self, index: int) -> str:
        """Kind and position: several kinds keep many pictures in one file."""
        return f'{self._kind}[{int(index)}]'

    def _identity(self) -> Any:
        return self._identity_of

    def read(self, index: SampleIndex) -> Image.Image:
        """See :class:`BaseDataset`."""
        try:
            # Greyscale digits and palette pictures, too, become RGB.
            return self._source[int(index)][0].convert('RGB')
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise DataError(f'{self.path(index)}: the picture cannot be read ({error})') from error


def _labels(source: Any) -> np.ndarray:
    for name in _LABELS:
        found = getattr(source, name, None)
        if found is not None:
            # _samples are pairs of path and label.
            return np.asarray([each[1] if isinstance(each, tuple) else int(each) for each in found], np.int64)
    raise DataError(
        f'this version of torchvision keeps the labels of {type(source).__name__} where they are not found: '
        'take a version from 0.25 to 0.29'
    )


def _classes(source: Any, labels: np.ndarray) -> list[str]:
    """Names torchvision knows, or numbers (GTSRB, Flowers-102)."""
    names = getattr(source, 'classes', None)
    return list(map(str, names if names is not None else range(int(labels.max()) + 1)))
