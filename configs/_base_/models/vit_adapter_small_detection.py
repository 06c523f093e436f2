"""ViT-Adapter-Small for detection: width 384, windows of 14, every third block global; four maps, strides 4 to 32.

Weights of the ViT: deit_small_patch16_224-cd65a155.pth of DeiT. Source: Chen et al. 2022 (arXiv 2205.08534).
"""

from mmengine.config import read_base

with read_base():
    from .vit_adapter_original import *

backbone.update(deform_num_heads=6, deform_ratio=1.0, drop_path_rate=0.2)
backbone['backbone'].update(
    hidden_size=384,
    num_attention_heads=6,
    intermediate_size=1536,
    drop_path_rate=0.2,
    pretrained='pretrained/deit_small_patch16_224-cd65a155.pth',
)
