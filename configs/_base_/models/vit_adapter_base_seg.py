"""ViT-Adapter-B, segmentation form: no windows, one group of the ViT added to each map."""

from mmengine.config import read_base

with read_base():
    from .vit_adapter_base_detection import *

backbone['vit_features'] = 'groups'
backbone['backbone']['window_size'] = None
backbone['backbone']['global_blocks'] = ()
