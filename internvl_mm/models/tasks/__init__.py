"""Tasks wire parts and own loss and predict."""

from .base import BaseTask, Part, build_part
from .classify import ImageClassifier

__all__ = ['BaseTask', 'ImageClassifier', 'Part', 'build_part']
