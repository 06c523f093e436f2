"""What joins the vision tower to the language model."""

from .base import BaseConnector
from .mlp import LlavaMlp, PixelShuffleMlp, QueryGlue
from .pixel_shuffle import ShuffleVersion, pixel_shuffle
from .qllama import QLlamaQueries

__all__ = [
    'BaseConnector',
    'LlavaMlp',
    'PixelShuffleMlp',
    'QLlamaQueries',
    'QueryGlue',
    'ShuffleVersion',
    'pixel_shuffle',
]
