"""Mask R-CNN with FPN on ViT-Adapter-Large, all weights, COCO, 12 epochs.

Command: torchrun --nproc_per_node 8 tools/train.py \
    configs/detection/mask_rcnn_vit_adapter_large_coco_1x.py --launcher pytorch
Hardware: 8 × 80 GB with 2 pictures per process (estimated, not run).
Expected: 48.7 / 43.3 box / mask AP published in the readme of ViT-Adapter; not run here.
"""

from mmdet.models.necks import FPN
from mmengine.config import read_base

from internvl_mm.models.necks import BackboneMaps

with read_base():
    from .._base_.benchmarks.coco_detection import *
    from .._base_.data.coco_detection import *
    from .._base_.models.mask_rcnn import *
    from .._base_.models.vit_adapter_large_detection import backbone as _backbone
    from .._base_.runtime import *
    from .._base_.schedules.detection_adamw_1x import *
    from .._base_.strategies.ddp import *

model.update(
    backbone=_backbone,
    neck=[
        dict(type=BackboneMaps, dim=1024),
        dict(type=FPN, in_channels=[1024] * 4, out_channels=256, num_outs=5),
    ],
)
optim_wrapper.update(paramwise_cfg=dict(decay_rate=0.8))
# AugReg weights were trained on pixels of -1 to 1
model['data_preprocessor'].update(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5])
default_hooks['checkpoint'].update(by_epoch=True, interval=1, save_best='coco/bbox_AP')
