"""Cascade Mask R-CNN with FPN on ViT-Adapter-Base, all weights, COCO, 36 epochs, multi-scale.

Command: torchrun --nproc_per_node 8 tools/train.py \
    configs/detection/cascade_mask_rcnn_vit_adapter_base_coco_3x.py --launcher pytorch
Hardware: 8 × 80 GB with 2 pictures per process (estimated, not run).
Expected: 52.1 / 44.8 box / mask AP published in the readme of ViT-Adapter; not run here.
"""

from mmdet.models.necks import FPN
from mmengine.config import read_base

from internvl_mm.models.necks import BackboneMaps

with read_base():
    from .._base_.benchmarks.coco_detection import *
    from .._base_.data.coco_detection_multi_scale import *
    from .._base_.models.cascade_mask_rcnn_adapter import *
    from .._base_.models.vit_adapter_base_detection import backbone as _backbone
    from .._base_.runtime import *
    from .._base_.schedules.detection_adamw_adapter_3x import *
    from .._base_.strategies.ddp import *

model.update(
    backbone=_backbone,
    neck=[
        dict(type=BackboneMaps, dim=768),
        dict(type=FPN, in_channels=[768] * 4, out_channels=256, num_outs=5),
    ],
)
default_hooks['checkpoint'].update(by_epoch=True, interval=1, save_best='coco/bbox_AP')
