"""Mask R-CNN with FPN on ViT-Adapter-Tiny, all weights, COCO, 12 epochs.

Command: torchrun --nproc_per_node 8 tools/train.py \
    configs/detection/mask_rcnn_vit_adapter_tiny_coco_1x.py --launcher pytorch
Hardware: 8 × 80 GB with 2 pictures per process (estimated, not run).
Expected: 41.1 / 37.5 box / mask AP published in the readme of ViT-Adapter; not run here.
Source: as published twice the rate and a fifth of the weight decay of the other sizes, and of its own 36 epochs.
"""

from mmdet.models.necks import FPN
from mmengine.config import read_base

from internvl_mm.models.necks import BackboneMaps

with read_base():
    from .._base_.benchmarks.coco_detection import *
    from .._base_.data.coco_detection import *
    from .._base_.models.mask_rcnn import *
    from .._base_.models.vit_adapter_tiny_detection import backbone as _backbone
    from .._base_.runtime import *
    from .._base_.schedules.detection_adamw_adapter_1x import *
    from .._base_.strategies.ddp import *

model.update(
    backbone=_backbone,
    neck=[
        dict(type=BackboneMaps, dim=192),
        dict(type=FPN, in_channels=[192] * 4, out_channels=256, num_outs=5),
    ],
)
optim_wrapper['optimizer'].update(lr=2e-4, weight_decay=0.01)
default_hooks['checkpoint'].update(by_epoch=True, interval=1, save_best='coco/bbox_AP')
