"""Tasks wire parts and own loss and predict."""

from .base import BaseTask, Part, build_part
from .classify import ImageClassifier
from .contrastive import ContrastivePretraining
from .image_text import ImageTextTask
from .published_probe import build_published_probe
from .qllama import GenerativePretraining, RetrievalFinetuning
from .segment import Segmenter

__all__ = [
    'BaseTask',
    'ContrastivePretraining',
    'GenerativePretraining',
    'ImageClassifier',
    'ImageTextTask',
    'Part',
    'RetrievalFinetuning',
    'Segmenter',
    'build_part',
    'build_published_probe',
]
