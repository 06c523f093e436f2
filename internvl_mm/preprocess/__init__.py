"""Prepare: pictures and batches, the same code in training, evaluation and serving."""

from .batch import ImageDataPreprocessor
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

__all__ = [
    'CLIP_MEAN',
    'CLIP_STD',
    'IMAGENET_MEAN',
    'IMAGENET_STD',
    'CenterCrop',
    'ImageDataPreprocessor',
    'Mixing',
    'RandomFlip',
    'RandomResizedCrop',
    'ResizeShortSide',
    'ResizeSquash',
]
