"""Tasks wire parts and own loss and predict."""

from .base import BaseTask, Part, build_part
from .classify import ImageClassifier
from .published_probe import build_published_probe
from .segment import Segmenter

__all__ = ['BaseTask', 'ImageClassifier', 'Part', 'Segmenter', 'build_part', 'build_published_probe']
