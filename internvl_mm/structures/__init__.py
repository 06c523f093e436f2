"""The only types that cross rooms."""

from .outputs import VisionFeatures
from .samples import BadSample, ImageSample, stack_field

__all__ = ['BadSample', 'ImageSample', 'VisionFeatures', 'stack_field']
