"""InternViT-300M-448px-V2_5 with the linear head as few-shot tuning trains it: all weights, on the last block."""

from mmengine.config import read_base

with read_base():
    from .intern_vit_300m_448px_v2_5 import backbone as _backbone
    from .seg_linear import *

model.update(
    backbone=dict(
        _backbone,
        image_size=504,
        drop_path_rate=0.2,
        gradient_checkpointing=True,
        out_indices=(23,),
    )
)
