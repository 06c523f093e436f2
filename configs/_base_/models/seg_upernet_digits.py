"""UperNet sized for the tiny InternViT: 16 channels, pooled to 1 and 2 cells a side; no auxiliary head.

A config adds the backbone with four tapped blocks.
"""

from mmengine.config import read_base
from mmseg.models import UPerHead
from torch.nn import BatchNorm2d

from internvl_mm.models.necks import MultiScaleNeck
from internvl_mm.models.tasks import Segmenter

with read_base():
    from .seg_digits import _inference, _loss
    from .seg_digits import data_preprocessor as _data_preprocessor

model = dict(
    type=Segmenter,
    neck=dict(type=MultiScaleNeck),
    decode_head=dict(
        type=UPerHead,
        in_index=[0, 1, 2, 3],
        channels=16,
        pool_scales=(1, 2),
        num_classes=11,
        dropout_ratio=0.0,
        norm_cfg=dict(type=BatchNorm2d),
        loss_decode=_loss,
    ),
    inference=_inference,
    data_preprocessor=_data_preprocessor,
)
