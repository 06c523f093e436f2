"""One folder per class."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

from internvl_mm.data.datasets.base import BaseDataset, numbered_classes
from internvl_mm.data.datasets.paths import PathTable, check_folder
from internvl_mm.data.samplers import SampleIndex
from internvl_mm.registry import DATASETS
from internvl_mm.utils.errors import DataError
from internvl_mm.utils.paths import ExistingFolder


@DATASETS.register_module()
class ImageFolderDataset(BaseDataset):
    """Images in one folder per class, in the order of torchvision's ``ImageFolder``.

    Args:
        root: Folder of class folders.
        labels: ``'sorted'``: the k-th folder name in sorted order is class k. ``'integer'``: folder name ``'7'`` is
            class 7, as ImageNetV2 comes.
        num_classes: Number of classes for ``'integer'`` labels (1000 for ImageNetV2); with ``'sorted'`` a check on the
            number of folders.
        options: See :class:`BaseDataset`.

    Raises:
        DataError: The root or a class folder is missing or empty, or the folders are not the classes expected.
    """

    def __init__(
        self,
        root: ExistingFolder,
        *,
        labels: Literal['sorted', 'integer'] = 'sorted',
        num_classes: int | None = None,
        **options: Any,
    ):
        folder = check_folder(root, 'one folder of images per class')
        # Hidden folders (.ipynb_checkpoints, .git) are no classes.
        names = sorted(
            entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith('.')
        )
        if not names:
            raise DataError(f"folder '{root}' holds no class folders; expected root/<class>/<image>")
        if labels == 'integer':
            numbers = [_integer(name, root) for name in names]
            # By the highest number, not by how many there are: folders may be missing.
            classes = numbered_classes(num_classes or max(numbers) + 1)
        else:
            numbers, classes = list(range(len(names))), tuple(names)
            if num_classes not in (None, len(names)):
                raise DataError(
                    f"folder '{root}' holds {len(names)} class folders, but num_classes={num_classes}"
                )
        try:
            # torchvision's own walk, so that positions and suffixes are those of its ImageFolder.
            samples = make_dataset(folder, dict(zip(names, numbers)), extensions=IMG_EXTENSIONS)
        except FileNotFoundError as error:  # a class without images
            raise DataError(f"folder '{root}': {error}") from error
        self._paths = PathTable(folder, [os.path.relpath(path, folder) for path, _ in samples])
        super().__init__([label for _, label in samples], classes, **options)

    def path(self, index: int) -> str:
        """See :class:`BaseDataset`."""
        return str(self._paths[index])

    def read(self, index: SampleIndex) -> Path:
        """See :class:`BaseDataset`."""
        return self._paths[index]


def _integer(name: str, root: str) -> int:
    if not name.isdecimal():
        raise DataError(
            f"folder '{root}' holds the class folder '{name}', but labels='integer' reads folder names as class "
            "numbers (0, 1, 2, …); use labels='sorted' for named classes"
        )
    return int(name)
