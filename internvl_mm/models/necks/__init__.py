"""Features of a backbone to what a head eats."""

from .base import BaseNeck
from .pooling import AttentionPooling, ClipProjector, ClsPatchConcat, ClsToken, MeanPatch

__all__ = ['AttentionPooling', 'BaseNeck', 'ClipProjector', 'ClsPatchConcat', 'ClsToken', 'MeanPatch']
