"""UperNet sized for the tiny InternViT: 32 channels at strides 7 to 28, pooled to 1 and 2 cells; no auxiliary head.

Group norms, because one cell of a few pictures is too little for batch norms.

A config adds the backbone with four tapped blocks.
"""

from mmengine.config import read_base
from mmseg.models import UPerHead
from torch.nn import GroupNorm

from internvl_mm.models.necks import MultiScaleNeck
from internvl_mm.models.tasks import Segmenter

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
    data_preprocessor=_data_preprocessor,
)
