"""Pixels to features."""

from .base import BaseBackbone, BlockBackbone, Frozen
from .intern_vit import InternViT

__all__ = ['BaseBackbone', 'BlockBackbone', 'Frozen', 'InternViT']
