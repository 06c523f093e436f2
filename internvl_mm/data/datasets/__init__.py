"""Data sets: index to one sample."""

from .base import BaseDataset
from .captioning import CaptioningDataset, DigitCaptioningDataset
from .chat import ChatDataset
from .chat_mixture import ChatMixture
from .chat_packed import PackedChatDataset
from .digit_captions import DigitCaptionDataset
from .digit_scenes import DigitSceneDataset
from .few_shot import FewShotDataset, RandomPartDataset
from .guarded import GuardedDataset
from .image_folder import ImageFolderDataset
from .image_list import ImageListDataset, ImageNetReaLDataset
from .image_text import (
    CaptionListDataset,
    CaptionShardDataset,
    CaptionTableDataset,
    ImageTextDataset,
    OnePerImage,
)
from .openmmlab import OpenMMLabDataset
from .preferences import PreferenceDataset, PreferenceMixture
from .table import TableDataset
from .tar_shards import TarShardDataset
from .torchvision_sets import TorchvisionDataset
from .videos import KineticsDataset, VideoCaptionDataset
from .zero_shot_sets import Caltech101Dataset, ObjectNetDataset, VOCObjectsDataset, XTDDataset

__all__ = [
    'BaseDataset',
    'Caltech101Dataset',
    'CaptionListDataset',
    'CaptionShardDataset',
    'CaptionTableDataset',
    'CaptioningDataset',
    'ChatDataset',
    'ChatMixture',
    'DigitCaptionDataset',
    'DigitCaptioningDataset',
    'DigitSceneDataset',
    'FewShotDataset',
    'GuardedDataset',
    'ImageFolderDataset',
    'ImageListDataset',
    'ImageNetReaLDataset',
    'ImageTextDataset',
    'ObjectNetDataset',
    'OnePerImage',
    'KineticsDataset',
    'OpenMMLabDataset',
    'PackedChatDataset',
    'PreferenceDataset',
    'PreferenceMixture',
    'RandomPartDataset',
    'TableDataset',
    'TarShardDataset',
    'TorchvisionDataset',
    'VOCObjectsDataset',
    'XTDDataset',
    'VideoCaptionDataset',
]
