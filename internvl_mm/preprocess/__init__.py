"""Prepare: pictures and batches, the same code in training, evaluation and serving."""

from .batch import ImageDataPreprocessor
from .chat import ChatEncoder
from .chat_batch import ChatDataPreprocessor
from .conversation import CHAT_TEMPLATES, ChatTemplate, chat_template
from .image import (
    CLIP_MEAN,
    CLIP_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    CenterCrop,
    RandomFlip,
    RandomResizedCrop,
    ResizeShortSide,
    ResizeSquash,
)
from .mixing import Mixing
from .tiling import CropTiling, DynamicTiling, JpegNoise, PadTiling, SquashTiling
from .video import RandomFrames, SegmentFrames

__all__ = [
    'CHAT_TEMPLATES',
    'CLIP_MEAN',
    'CLIP_STD',
    'IMAGENET_MEAN',
    'IMAGENET_STD',
    'CenterCrop',
    'ChatDataPreprocessor',
    'ChatEncoder',
    'ChatTemplate',
    'CropTiling',
    'DynamicTiling',
    'ImageDataPreprocessor',
    'JpegNoise',
    'Mixing',
    'PadTiling',
    'RandomFlip',
    'RandomFrames',
    'RandomResizedCrop',
    'ResizeShortSide',
    'ResizeSquash',
    'SegmentFrames',
    'SquashTiling',
    'chat_template',
]
