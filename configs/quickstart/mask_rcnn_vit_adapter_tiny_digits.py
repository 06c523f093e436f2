"""Mask R-CNN with FPN on a ViT-Adapter around the tiny InternViT of finetune_intern_vit_tiny_digits.py, all weights.

Command: OMP_NUM_THREADS=1 python tools/train.py configs/quickstart/mask_rcnn_vit_adapter_tiny_digits.py \
    --cfg-options model.backbone.backbone.pretrained=RUN/checkpoints/NAME
Hardware: 2 CPU cores, fp32.
Expected: box AP50 44.0, box AP 19.9, mask AP50 17.1 on 360 test scenes (measured, seed 0, backbone of
    contrastive_intern_vit_tiny_digits.py, 2 minutes): its new parts have no more steps than the pyramid had.
"""

from mmdet.models.necks import FPN
from mmengine.config import read_base

from internvl_mm.models.necks import BackboneMaps

with read_base():
    from .._base_.benchmarks.digit_scenes_detection import *
    from .._base_.data.digit_scenes_detection import *
    from .._base_.models.mask_rcnn_digits import *
    from .._base_.models.vit_adapter_digits import backbone as _backbone
    from .._base_.runtime import *
    from .._base_.schedules.detection_adamw_digits import *

model.update(
    backbone=_backbone,
    neck=[dict(type=BackboneMaps, dim=96), dict(type=FPN, in_channels=[96] * 4, out_channels=64, num_outs=4)],
)
model['data_preprocessor'].update(pad_size_divisor=32)
_rpn['anchor_generator'].update(strides=[4, 8, 16, 32])
_roi['bbox_roi_extractor'].update(featmap_strides=[4, 8, 16, 32])
_roi['mask_roi_extractor'].update(featmap_strides=[4, 8, 16, 32])
train_dataloader['dataset']['pipeline'][2].update(scale=(128, 128))
benchmarks['digit_scenes']['dataloader']['dataset']['pipeline'][1].update(scale=(128, 128))
