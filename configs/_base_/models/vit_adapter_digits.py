"""A small ViT-Adapter around the tiny InternViT: patch 16 for its strides, so that scenes of 112 pixels become 128."""

from mmengine.config import read_base

from internvl_mm.models.backbones import ViTAdapter

with read_base():
    from .intern_vit_tiny import backbone as _vit

_vit.update(patch_size=16, image_size=64, pretrained='work_dirs/finetune_intern_vit_tiny_digits')
backbone = dict(
    type=ViTAdapter,
    backbone=_vit,
    interactions=((0, 0), (1, 1), (2, 2), (3, 3)),
    conv_inplane=16,
    deform_num_heads=4,
    deform_ratio=0.5,
    eps=1e-6,
)
