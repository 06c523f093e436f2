"""Published weights in four layouts: read, rename, load strictly, write."""

from .files import open_weights
from .load import load_vision_weights
from .names import LAYOUTS, Layout, VisionWeights, from_hf, to_hf

__all__ = ['LAYOUTS', 'Layout', 'VisionWeights', 'from_hf', 'load_vision_weights', 'open_weights', 'to_hf']
