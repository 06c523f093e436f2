"""cascade_mask_rcnn.py with the box heads of ViT-Adapter: four convolutions with batch norms, classes apart, GIoU.

Source: Chen et al. 2022 (arXiv 2205.08534), ``cascade_mask_rcnn_deit_adapter_*_fpn_3x_coco.py``.
"""

from mmdet.models.losses import GIoULoss
from mmdet.models.roi_heads import ConvFCBBoxHead
from mmengine.config import read_base
from torch.nn import BatchNorm2d

with read_base():
    from .cascade_mask_rcnn import *

# The strategies turn batch norms of several processes into synchronised ones, as published.
_published = dict(
    type=ConvFCBBoxHead,
    num_shared_convs=4,
    num_shared_fcs=1,
    norm_cfg=dict(type=BatchNorm2d),
    reg_class_agnostic=False,
    reg_decoded_bbox=True,
    loss_bbox=dict(type=GIoULoss, loss_weight=10.0),
)
model['detector']['roi_head'].update(
    bbox_head=[dict(_first, **_published), dict(_second, **_published), dict(_third, **_published)]
)
