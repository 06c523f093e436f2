"""What joins the vision tower to the language model."""

from .base import BaseConnector
from .mlp import LlavaMlp, PixelShuffleMlp, QueryGlue
from .pixel_shuffle import ShuffleVersion, pixel_shuffle

__all__ = ['BaseConnector', 'LlavaMlp', 'PixelShuffleMlp', 'QueryGlue', 'ShuffleVersion', 'pixel_shuffle']
