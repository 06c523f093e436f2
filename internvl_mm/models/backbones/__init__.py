"""Pixels to features."""

from .base import BaseBackbone, BlockBackbone, Frozen
from .intern_vit import InternViT
from .vit_adapter import ViTAdapter

__all__ = ['BaseBackbone', 'BlockBackbone', 'Frozen', 'InternViT', 'ViTAdapter']
