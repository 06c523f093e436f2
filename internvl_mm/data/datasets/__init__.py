"""Data sets: index to one sample."""

from .base import BaseDataset
from .chat import ChatDataset
from .chat_mixture import ChatMixture
from .chat_packed import PackedChatDataset
from .digit_scenes import DigitSceneDataset
from .few_shot import FewShotDataset, RandomPartDataset
from .guarded import GuardedDataset
from .image_folder import ImageFolderDataset
from .image_list import ImageListDataset, ImageNetReaLDataset
from .openmmlab import OpenMMLabDataset
from .table import TableDataset
from .tar_shards import TarShardDataset

__all__ = [
    'BaseDataset',
    'ChatDataset',
    'ChatMixture',
    'DigitSceneDataset',
    'FewShotDataset',
    'GuardedDataset',
    'ImageFolderDataset',
    'ImageListDataset',
    'ImageNetReaLDataset',
    'OpenMMLabDataset',
    'PackedChatDataset',
    'RandomPartDataset',
    'TableDataset',
    'TarShardDataset',
]
