"""InternViT-6B-224px as the published detection backbone: frozen, patch 16, all blocks in windows of 16, no class token.

One tap, the last block, which a :class:`MultiScaleNeck` with ``stride=16`` turns into strides 4, 8, 16 and 32 before FPN.
"""

from mmengine.config import read_base

with read_base():
    from .intern_vit_6b_224px import *

# 256 pixels at patch 16 keep the stored grid of 16 x 16 positions; other sizes resample them at run time.
backbone.update(
    image_size=256, patch_size=16, use_class_token=False, window_size=16, out_indices=(47,), frozen='all'
)
