"""ViT-Adapter-Large for detection: width 1024, windows of 14, every sixth block global; four maps, strides 4 to 32.

Weights of the ViT: the AugReg ViT-L/16 of timm at 384 pixels, which saw pixels of -1 to 1.
Source: Chen et al. 2022 (arXiv 2205.08534).
"""

from mmengine.config import read_base

with read_base():
    from .vit_adapter_original import *

backbone.update(
    interactions=((0, 5), (6, 11), (12, 17), (18, 23)),
    deform_num_heads=16,
    deform_ratio=0.5,
    drop_path_rate=0.4,
)
backbone['backbone'].update(
    hidden_size=1024,
    num_hidden_layers=24,
    num_attention_heads=16,
    intermediate_size=4096,
    image_size=384,
    drop_path_rate=0.4,
    global_blocks=(5, 11, 17, 23),
    pretrained='pretrained/vit_large_patch16_augreg.pth',
)
