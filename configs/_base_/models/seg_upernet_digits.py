"""UperNet sized for the tiny InternViT: 32 channels at strides 7 to 28, pooled to 1 and 2 cells.

Group norms, because one cell of a few pictures is too little for batch norms. The auxiliary head reads the last block
alone: without it UperNet puts together what the blocks know, and the tokens a chat model takes hardly tell digits apart.

A config adds the backbone with four tapped blocks.
"""

from mmengine.config import read_base
from mmseg.models import UPerHead
from torch.nn import GroupNorm

from internvl_mm.models.heads.linear_seg import LinearSegHead
from internvl_mm.models.necks import MultiScaleNeck
from internvl_mm.models.tasks.segment import Segmenter

with read_base():
    from .seg_digits import _loss
    from .seg_digits import data_preprocessor as _data_preprocessor

model = dict(
    type=Segmenter,
    neck=dict(type=MultiScaleNeck),
    decode_head=dict(
        type=UPerHead,
        in_index=[1, 2, 3],
        channels=32,
        pool_scales=(1, 2),
        num_classes=11,
        dropout_ratio=0.0,
        norm_cfg=dict(type=GroupNorm, num_groups=8),
        loss_decode=_loss,
    ),
    auxiliary_head=dict(
        type=LinearSegHead,
        in_index=3,  # the last block, pooled to cells of 28 pixels, as chat's pixel shuffle groups its patches
        num_classes=11,
        loss_decode=dict(_loss, loss_weight=0.4),
    ),
    data_preprocessor=_data_preprocessor,
)
