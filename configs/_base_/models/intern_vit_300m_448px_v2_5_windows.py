"""InternViT-300M-448px-V2_5 for detection, as ViTDet runs large ViTs: patch 16, windows of 14, every sixth block global.

The 32×32 stored positions then stand for 512 pixels; the patch kernel is resampled from 14 to 16.
"""

from mmengine.config import read_base

with read_base():
    from .intern_vit_300m_448px_v2_5 import *

backbone.update(
    image_size=512,
    patch_size=16,
    use_class_token=False,
    window_size=14,
    global_blocks=(5, 11, 17, 23),
    out_indices=(23,),
    drop_path_rate=0.4,
    gradient_checkpointing=True,
)
