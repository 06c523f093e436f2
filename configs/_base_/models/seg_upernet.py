"""UperNet on four blocks: the published neck and mmseg's UPerHead of 1536 channels, with an FCN head for training.

312.5 M parameters in the head, 44.5 M in the auxiliary one and 122.9 M in the neck at width 3200. A config adds the
backbone with its tapped blocks and, for other data than ADE20K, the number of classes.
"""

from mmengine.config import read_base
from mmseg.models import CrossEntropyLoss, FCNHead, UPerHead
from torch.nn import BatchNorm2d

from internvl_mm.models.inference import SlideInference
from internvl_mm.models.necks import MultiScaleNeck
from internvl_mm.models.tasks.segment import Segmenter

with read_base():
    from .seg_preprocessor import data_preprocessor as _data_preprocessor

# The strategies turn batch norms of several processes into synchronised ones, as published.
model = dict(
    type=Segmenter,
    neck=dict(type=MultiScaleNeck),
    decode_head=dict(
        type=UPerHead,
        in_index=[0, 1, 2, 3],
        channels=1536,
        pool_scales=(1, 2, 3, 6),
        num_classes=150,
        norm_cfg=dict(type=BatchNorm2d),
    ),
    auxiliary_head=dict(
        type=FCNHead,
        in_index=1,
        channels=1536,
        num_convs=1,
        concat_input=False,
        num_classes=150,
        norm_cfg=dict(type=BatchNorm2d),
        loss_decode=dict(type=CrossEntropyLoss, loss_weight=0.4),
    ),
    inference=dict(type=SlideInference, crop_size=504, stride=322),
    data_preprocessor=_data_preprocessor,
)
