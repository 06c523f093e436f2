"""How pictures are made square at 224 pixels: classification crops the middle, retrieval squashes the whole (published)."""

from internvl_mm.preprocess import CenterCrop, ResizeShortSide, ResizeSquash

_crop = [dict(type=ResizeShortSide, size=224), dict(type=CenterCrop, size=224)]
_squash = [dict(type=ResizeSquash, size=224)]
