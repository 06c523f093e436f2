"""ViT-Adapter-Base for detection: width 768, windows of 14, every third block global; four maps, strides 4 to 32.

Weights of the ViT: deit_base_patch16_224-b5f2ef4d.pth of DeiT. Source: Chen et al. 2022 (arXiv 2205.08534).
"""

from mmengine.config import read_base

with read_base():
    from .vit_adapter_original import *

backbone.update(deform_num_heads=12, deform_ratio=0.5, drop_path_rate=0.3)
backbone['backbone'].update(
    hidden_size=768,
    num_attention_heads=12,
    intermediate_size=3072,
    drop_path_rate=0.3,
    pretrained='pretrained/deit_base_patch16_224-b5f2ef4d.pth',
)
