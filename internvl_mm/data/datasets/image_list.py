"""Images named in a list file, and ImageNet-ReaL on top of one."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from internvl_mm.data.datasets.base import BaseDataset, numbered_classes
from internvl_mm.data.datasets.paths import PathTable, check_confined, check_folder
from internvl_mm.data.samplers import SampleIndex
from internvl_mm.registry import DATASETS
from internvl_mm.structures import ImageSample
from internvl_mm.utils.errors import DataError
from internvl_mm.utils.paths import ExistingFile, ExistingFolder


@DATASETS.register_module()
class ImageListDataset(BaseDataset):
    """Images named in a text file, one ``relative/path label`` per line (``meta_data/train.txt`` of ImageNet-1K).

    Args:
        root: Folder the paths are relative to; none may lead out of it.
        list_file: The text file.
        num_classes: Number of classes.
        options: See :class:`BaseDataset`.

    Raises:
        DataError: A file or folder is missing, a line is malformed, or a path leads out of the root.
    """

    def __init__(self, root: ExistingFolder, list_file: ExistingFile, *, num_classes: int, **options: Any):
        paths, targets = read_list(list_file)
        self._paths = PathTable(check_folder(root, 'the images of the list'), paths)
        super().__init__(targets, numbered_classes(num_classes), **options)

    def path(self, index: int) -> str:
        """See :class:`BaseDataset`."""
        return str(self._paths[index])

    def read(self, index: SampleIndex) -> Path:
        """See :class:`BaseDataset`."""
        return self._paths[index]


@DATASETS.register_module()
class ImageNetReaLDataset(ImageListDataset):
    """The ImageNet-1K validation images with every class that people saw in them.

    Samples carry ``gt_labels`` (all accepted classes) beside the original ``gt_label``. Images without any accepted
    class are left out: of 50,000 images 3,163, so that 46,837 remain.

    Args:
        root: Folder of the validation images.
        list_file: ``meta_data/val.txt``, naming files ``ILSVRC2012_val_XXXXXXXX.JPEG``.
        real_file: ``real.json``: a list of label lists, the k-th for file number k + 1.
        num_classes: Number of classes.
        options: See :class:`BaseDataset`.

    Raises:
        DataError: As :class:`ImageListDataset`, or a file has no number or no entry in ``real_file``.

    Source: Beyer et al. 2020, "Are we done with ImageNet?".
    """

    def __init__(
        self,
        root: ExistingFolder,
        list_file: ExistingFile,
        real_file: ExistingFile,
        *,
        num_classes: int = 1000,
        **options: Any,
    ):
        super().__init__(root, list_file, num_classes=num_classes, **options)
        label_sets = _read_label_sets(real_file, num_classes)
        numbers = [_file_number(self.path(index), list_file, len(label_sets)) for index in range(len(self))]
        # File numbers count from 1.
        accepted = [np.array(label_sets[number - 1], np.int64) for number in numbers]
        # As published: images in which nobody saw any class do not count.
        kept = [index for index, labels in enumerate(accepted) if len(labels)]
        if not kept:
            raise DataError(f'{real_file}: accepts no class for any image of {list_file}')
        self.num_excluded = len(self) - len(kept)
        self.targets = self.targets[kept]
        self._accepted = [accepted[index] for index in kept]
        self._paths = self._paths.take(kept)

    def annotate(self, sample: ImageSample, index: int) -> None:
        """Add ``gt_labels``, every accepted class."""
        # A copy: from_numpy shares memory, and a change of the sample would reach the data set.
        sample.gt_labels = torch.from_numpy(self._accepted[index].copy())

    def _identity(self) -> list[list[int]]:
        return [labels.tolist() for labels in self._accepted]


def read_list(list_file: str) -> tuple[list[str], list[int]]:
    """Return paths and labels of a list file; empty lines are passed over.

    Raises:
        DataError: The file cannot be read, a line is not ``path label``, or a path leads out of the root.
    """
    paths, targets = [], []
    for number, line in enumerate(_read_text(list_file).splitlines(), start=1):
        if not line.strip():
            continue
        # From the right, as names of files may have spaces in them.
        path, _, label = line.strip().replace('\t', ' ').rpartition(' ')
        # A minus is read, so that the check of the labels can name the range.
        if not path or not label.removeprefix('-').isdecimal():
            raise DataError(
                f"{list_file}:{number}: {line!r} is not 'relative/path label', as in 'cat/1.jpg 0'"
            )
        # Several blanks may stand between path and label; the split took the last.
        paths.append(check_confined(path.rstrip(), f'{list_file}:{number}'))
        targets.append(int(label))
    return paths, targets


def _read_label_sets(real_file: str, num_classes: int) -> list[list[int]]:
    try:
        label_sets = json.loads(_read_text(real_file))  # 50,000 lists, 3,163 of them empty
    except json.JSONDecodeError as error:
        raise DataError(f'{real_file}: not JSON ({error}); download real.json again') from error
    if not isinstance(label_sets, list) or not all(isinstance(labels, list) for labels in label_sets):
        raise DataError(f'{real_file}: should be a list of label lists, one per validation image')
    for number, labels in enumerate(label_sets, start=1):
        if not all(isinstance(label, int) and 0 <= label < num_classes for label in labels):
            raise DataError(
                f'{real_file}: labels {labels} of image {number} are not all within 0 to {num_classes - 1}'
            )
    return label_sets


def _file_number(path: str, list_file: str, count: int) -> int:
    # ILSVRC2012_val_00000001.JPEG: the numbering real.json follows, whatever the order of the list.
    match = re.search(r'_(\d+)\.[^./]+$', path)
    if match is None or not 1 <= int(match[1]) <= count:
        raise DataError(
            f"{list_file}: '{path}' has no number from 1 to {count} at the end of its name (as ILSVRC2012_val_00000001."
            'JPEG has), which says where in the ReaL labels it is found'
        )
    return int(match[1])


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f'{path}: cannot be read as text ({error})') from error
