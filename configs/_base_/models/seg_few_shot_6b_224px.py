"""InternViT-6B-224px with the linear head as few-shot tuning trains it: all weights, on the last block.

Linear probing reads block 44 instead.
"""

from mmengine.config import read_base

with read_base():
    from .intern_vit_6b_224px import backbone as _backbone
    from .seg_linear import *

model.update(
    backbone=dict(
        _backbone,
        image_size=504,
        drop_path_rate=0.4,
        gradient_checkpointing=True,
        out_indices=(47,),
    )
)
