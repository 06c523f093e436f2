"""Zero-shot benchmarks whose layout is their own: ObjectNet, Caltech-101, objects of PASCAL VOC, XTD."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from internvl_mm.data.captions import Pair
from internvl_mm.data.datasets.base import BaseDataset
from internvl_mm.data.datasets.image_folder import ImageFolderDataset
from internvl_mm.data.datasets.image_text import ImageTextDataset
from internvl_mm.data.datasets.paths import PathTable, check_confined, check_folder
from internvl_mm.data.samplers import SampleIndex
from internvl_mm.registry import DATASETS
from internvl_mm.utils.errors import DataError, did_you_mean
from internvl_mm.utils.paths import ExistingFolder

BORDER = 2  # pixels of red around every picture of ObjectNet
VOC_CLASSES = (
    'aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat', 'chair', 'cow', 'diningtable', 'dog',
    'horse', 'motorbike', 'person', 'pottedplant', 'sheep', 'sofa', 'train', 'tvmonitor',
)  # fmt: skip


def _subset(dataset: ImageFolderDataset, keep: np.ndarray, classes: list[str]) -> None:
    """Keep some classes of a folder data set: new label of each old one, −1 for none."""
    labels = keep[dataset.targets]  # [n]
    kept = np.flatnonzero(labels >= 0)
    dataset._paths = dataset._paths.take(kept)
    dataset.targets, dataset.classes = labels[kept], tuple(classes)


@DATASETS.register_module()
class ObjectNetDataset(ImageFolderDataset):
    """The 113 classes of ObjectNet that ImageNet-1K has too, 18,574 pictures.

    Classes have ObjectNet's names in lower case; labels are the rank of the folder's name among the 113.

    Args:
        root: ``objectnet-1.0`` as published, with ``images/`` and ``mappings/``.
        published: Leave the red border around the pictures, as the published numbers did; ObjectNet asks to remove it.
        options: See :class:`BaseDataset`.

    Raises:
        DataError: A folder or a mapping is missing.
    """

    def __init__(self, root: ExistingFolder, *, published: bool = False, **options: Any):
        folder = check_folder(root, 'images/ and mappings/ of objectnet-1.0')
        names = _mapping(folder, 'folder_to_objectnet_label.json')
        overlap = _mapping(folder, 'objectnet_to_imagenet_1k.json')
        super().__init__(str(folder / 'images'), **options)
        self.published = published
        # Folders in order; the rank among those that overlap is the label.
        # 313 folders, 113 of them with a class of ImageNet.
        ranks, classes = np.full(len(self.classes), -1), []
        for number, each in enumerate(self.classes):
            if names.get(each) in overlap:
                ranks[number] = len(classes)
                classes.append(names[each].lower())
        if not classes:
            raise DataError(f"folder '{folder}/images' holds no class that the mappings give to ImageNet")
        _subset(self, ranks, classes)

    def read(self, index: SampleIndex) -> Any:
        """See :class:`BaseDataset`."""
        path = super().read(index)
        if self.published:
            return path
        image = self.decoder(path, str(path))
        return image.crop((BORDER, BORDER, image.width - BORDER, image.height - BORDER))

    def _identity(self) -> Any:
        return self.published


def _mapping(folder: Path, name: str) -> dict[str, str]:
    file = folder / 'mappings' / name
    try:
        return json.loads(file.read_text('utf-8'))
    except (OSError, ValueError) as error:
        raise DataError(f'{file}: cannot be read ({error}); it comes with objectnet-1.0') from error


@DATASETS.register_module()
class Caltech101Dataset(ImageFolderDataset):
    """Caltech-101, every picture: there is no split.

    Args:
        root: ``101_ObjectCategories``, with a folder per class.
        published: Keep ``BACKGROUND_Google`` (467 pictures) as a class, as the published numbers did; the authors of
            the data set do not count it among the 101.
        options: See :class:`ImageFolderDataset`.
    """

    def __init__(self, root: ExistingFolder, *, published: bool = False, **options: Any):
        super().__init__(root, **options)
        if not published:
            names = [name for name in self.classes if name != 'BACKGROUND_Google']  # 101 of 102
            _subset(self, np.array([names.index(n) if n in names else -1 for n in self.classes]), names)


@DATASETS.register_module()
class VOCObjectsDataset(BaseDataset):
    """Objects of PASCAL VOC 2007 cut out of their pictures by their boxes, one class each.

    Args:
        root: ``VOCdevkit/VOC2007``, with ``JPEGImages``, ``Annotations`` and ``ImageSets``.
        split: Name of a list in ``ImageSets/Main``.
        options: See :class:`BaseDataset`.

    Raises:
        DataError: A folder or an annotation is missing or damaged.
    """

    def __init__(self, root: ExistingFolder, *, split: str = 'test', **options: Any):
        folder = check_folder(root, 'JPEGImages, Annotations and ImageSets of PASCAL VOC')
        file = folder / 'ImageSets' / 'Main' / f'{split}.txt'
        try:
            names = [line.split()[0] for line in file.read_text('utf-8').splitlines() if line.strip()]
        except OSError as error:
            raise DataError(
                f"{file}: cannot be read ({error.strerror}); it lists the pictures of '{split}'"
            ) from error
        found = [
            (name, *thing) for name in names for thing in _objects(folder / 'Annotations' / f'{name}.xml')
        ]
        images = [f'{check_confined(name, str(file))}.jpg' for name, _, _ in found]
        self._paths = PathTable(folder / 'JPEGImages', images)
        # Left, top, right, bottom in pixels.
        self._boxes = np.array([box for _, _, box in found], np.int64).reshape(-1, 4)
        super().__init__([label for _, label, _ in found], VOC_CLASSES, **options)

    def path(self, index: int) -> str:
        """Picture and box."""
        return f'{self._paths[index]}{self._boxes[index].tolist()}'

    def read(self, index: SampleIndex) -> Image.Image:
        """See :class:`BaseDataset`."""
        path = self._paths[index]
        return self.decoder(path, str(path)).crop(tuple(self._boxes[index].tolist()))


def _objects(file: Path) -> list[tuple[int, tuple[int, ...]]]:
    """Class and box of each object of an annotation."""
    found: list[tuple[int, tuple[int, ...]]] = []
    try:
        for thing in ElementTree.parse(file).iter('object'):
            label = VOC_CLASSES.index(str(thing.findtext('name')))
            # Some annotations of PASCAL VOC give fractions of pixels.
            left, top, right, bottom = (
                int(float(thing.findtext(f'bndbox/{side}', ''))) for side in ('xmin', 'ymin', 'xmax', 'ymax')
            )
            # Nothing could be cut out of the picture, which would be found only when it is read.
            if left >= right or top >= bottom:
                raise ValueError(f'the box {left}, {top}, {right}, {bottom} is inverted or empty')
            found.append((label, (left, top, right, bottom)))
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise DataError(f'{file}: not an annotation of PASCAL VOC ({error})') from error
    return found


XTDLanguage = Literal['en', 'es', 'fr', 'zh', 'it', 'ko', 'ru', 'jp', 'de', 'pl', 'tr']
# As the files are called: 'jp', not 'ja'.
XTD_LANGUAGES = ('en', 'es', 'fr', 'zh', 'it', 'ko', 'ru', 'jp', 'de', 'pl', 'tr')


@DATASETS.register_module()
class XTDDataset(ImageTextDataset):
    """XTD: 1,000 pictures of COCO 2014 with one caption each, in one of eleven languages.

    Args:
        root: Folder of the published text files, ``test_image_names.txt`` and ``test_1kcaptions_<language>.txt``.
        images: Folder of COCO, with ``train2014`` and ``val2014``.
        language: Of the captions; Chinese is ``'zh'``, Japanese ``'jp'``, as the files are called.
        options: See :class:`ImageTextDataset`. Captions are not cleaned, as published.

    Raises:
        DataError: An unknown language, or files that do not fit together.

    Source: Aggarwal and Kale 2020, "Towards zero-shot cross-lingual image retrieval".
    """

    def __init__(
        self, root: ExistingFolder, images: ExistingFolder, *, language: XTDLanguage = 'en', **options: Any
    ):
        if language not in XTD_LANGUAGES:
            hint = " Did you mean 'zh'?" if language == 'cn' else did_you_mean(language, XTD_LANGUAGES)
            raise DataError(f'language={language!r}: XTD has {", ".join(XTD_LANGUAGES)}.{hint}')
        folder = check_folder(root, 'the text files of XTD')
        names = _lines(folder / 'test_image_names.txt')
        captions = _lines(folder / f'test_1kcaptions_{language}.txt')
        if len(names) != len(captions):
            raise DataError(f'{folder}: {len(names)} images but {len(captions)} captions in {language!r}')
        # The names of the files say where they lie: COCO_train2014_…, COCO_val2014_….
        paths = [
            f'{"val2014" if "val" in name else "train2014"}/{check_confined(name, str(folder))}'
            for name in names
        ]
        self._paths = PathTable(check_folder(images, 'train2014 and val2014 of COCO'), paths)
        pairs = [Pair(path, text, path, {}) for path, text in zip(paths, captions, strict=True)]
        super().__init__(pairs, **options)

    def path(self, index: int) -> str:
        """See :class:`GuardedDataset`."""
        return str(self._paths[index])

    def read(self, index: SampleIndex) -> Path:
        """See :class:`ImageTextDataset`."""
        return self._paths[index]


def _lines(file: Path) -> list[str]:
    try:
        # Stripped, as published. Not splitlines, which also ends lines at signs within captions (U+2028).
        return [line.strip() for line in file.read_text('utf-8').rstrip('\n').split('\n')]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f'{file}: cannot be read ({error}); docs/zero_shot.md says where it is published'
        ) from error
