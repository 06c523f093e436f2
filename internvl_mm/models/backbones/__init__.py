"""Pixels to features."""

from .base import BaseBackbone, Frozen
from .intern_vit import InternViT

__all__ = ['BaseBackbone', 'Frozen', 'InternViT']
