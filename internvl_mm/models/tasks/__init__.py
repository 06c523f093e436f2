"""Tasks wire parts and own loss and predict."""

from .base import BaseTask, Part, build_part

__all__ = ['BaseTask', 'Part', 'build_part']
