"""Tasks wire parts and own loss and predict.

Those on mmseg and mmdet (:mod:`.segment`, :mod:`.detect`) are imported by themselves: what they bring takes seconds.
"""

from .base import BaseTask, Part, build_part
from .classify import ImageClassifier
from .contrastive import ContrastivePretraining
from .image_text import ImageTextTask
from .published_probe import build_published_probe
from .qllama import GenerativePretraining, RetrievalFinetuning

__all__ = [
    'BaseTask',
    'ContrastivePretraining',
    'GenerativePretraining',
    'ImageClassifier',
    'ImageTextTask',
    'Part',
    'RetrievalFinetuning',
    'build_part',
    'build_published_probe',
]
