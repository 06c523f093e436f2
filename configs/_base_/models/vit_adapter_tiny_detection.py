"""ViT-Adapter-Tiny for detection: width 192, windows of 14, every third block global; four maps, strides 4 to 32.

Weights of the ViT: deit_tiny_patch16_224-a1311bcf.pth of DeiT. Source: Chen et al. 2022 (arXiv 2205.08534).
"""

from mmengine.config import read_base

with read_base():
    from .vit_adapter_original import *

backbone.update(deform_num_heads=6, deform_ratio=1.0, drop_path_rate=0.1)
backbone['backbone'].update(
    hidden_size=192,
    num_attention_heads=3,
    intermediate_size=768,
    drop_path_rate=0.1,
    pretrained='pretrained/deit_tiny_patch16_224-a1311bcf.pth',
)
