"""ViT-Adapter around the frozen InternViT-6B-224px at patch 16: 143,796,184 trainable parameters.

Published at 512 pixels, where the positions are resampled once, on loading; other multiples of 32 resample them at run
time. Weights of the ViT: https://huggingface.co/OpenGVLab/InternVL (intern_vit_6b_224px.pth).
"""

from mmengine.config import read_base

from internvl_mm.models.backbones import ViTAdapter

with read_base():
    from .intern_vit_6b_224px import backbone as _vit

backbone = dict(
    type=ViTAdapter,
    backbone=dict(_vit, image_size=512, patch_size=16, use_class_token=False, frozen='all'),
    interactions=((0, 11), (12, 23), (24, 35), (36, 47)),
    deform_num_heads=25,
    deform_ratio=0.25,
)
