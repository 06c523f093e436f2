"""Data sets: index to one labelled image."""

from .base import BaseDataset
from .digit_scenes import DigitSceneDataset
from .few_shot import FewShotDataset
from .image_folder import ImageFolderDataset
from .image_list import ImageListDataset, ImageNetReaLDataset
from .table import TableDataset
from .tar_shards import TarShardDataset

__all__ = [
    'BaseDataset',
    'DigitSceneDataset',
    'FewShotDataset',
    'ImageFolderDataset',
    'ImageListDataset',
    'ImageNetReaLDataset',
    'TableDataset',
    'TarShardDataset',
]
