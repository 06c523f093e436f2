"""The published Mask R-CNN on the frozen InternViT-6B-224px, all blocks in windows, COCO, 12 epochs.

Command: torchrun --nproc_per_node 8 tools/train.py \
    configs/detection/mask_rcnn_fpn_intern_vit_6b_224px_frozen_coco_1x.py --launcher pytorch
Hardware: 8 × 80 GB with 2 pictures per process (estimated, not run).
Expected: no number was published for this config (nothing says whether it was run), nor was it run here.
Source: no clipping in the published config, but DeepSpeed goes by its own file there, which clips at 1.0 (fp16, stage 1).
"""

from mmdet.models.necks import FPN
from mmengine.config import read_base

from internvl_mm.models.necks import MultiScaleNeck

with read_base():
    from .._base_.benchmarks.coco_detection import *
    from .._base_.data.coco_detection import *
    from .._base_.models.intern_vit_6b_224px_windows import backbone as _backbone
    from .._base_.models.mask_rcnn import *
    from .._base_.runtime import *
    from .._base_.schedules.detection_adamw_1x import *
    from .._base_.strategies.zero1 import *

model.update(
    backbone=_backbone,
    neck=[
        dict(type=MultiScaleNeck, dim=3200, stride=16),
        dict(type=FPN, in_channels=[3200] * 4, out_channels=256, num_outs=5),
    ],
)
optim_wrapper.update(clip_grad=dict(max_norm=1.0))
default_hooks['checkpoint'].update(by_epoch=True, interval=1, save_best='coco/bbox_AP')
