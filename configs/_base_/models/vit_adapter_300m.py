"""ViT-Adapter around InternViT-300M-448px-V2_5 at patch 16, in the form of the 6B. Ours; nothing was published."""

from mmengine.config import read_base

from internvl_mm.models.backbones import ViTAdapter

with read_base():
    from .intern_vit_300m_448px_v2_5 import backbone as _vit

backbone = dict(
    type=ViTAdapter,
    backbone=dict(_vit, image_size=512, patch_size=16, use_class_token=False, frozen='all'),
    interactions=((0, 5), (6, 11), (12, 17), (18, 23)),
    deform_num_heads=16,
    deform_ratio=0.5,
)
