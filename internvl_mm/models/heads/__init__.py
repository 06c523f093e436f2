"""Features to logits."""

from .linear_cls import LinearClsHead

__all__ = ['LinearClsHead']
