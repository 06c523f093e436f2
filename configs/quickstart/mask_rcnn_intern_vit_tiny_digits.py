"""Mask R-CNN with a simple feature pyramid on the tiny InternViT of finetune_intern_vit_tiny_digits.py, all weights.

Command: OMP_NUM_THREADS=1 python tools/train.py configs/quickstart/mask_rcnn_intern_vit_tiny_digits.py
Hardware: 2 CPU cores, fp32, one thread; about 100 s of processor time on a crowded machine.
Expected: box AP50 66.1, box AP 40.1, mask AP50 63.9 on 360 test scenes (measured, seed 0, backbone of
    contrastive_intern_vit_tiny_digits.py).
"""

from mmengine.config import read_base

from internvl_mm.models.necks import SimpleFeaturePyramid

with read_base():
    from .._base_.benchmarks.digit_scenes_detection import *
    from .._base_.data.digit_scenes_detection import *
    from .._base_.models.intern_vit_tiny import backbone as _backbone
    from .._base_.models.mask_rcnn_digits import *
    from .._base_.runtime import *
    from .._base_.schedules.detection_adamw_digits import *

model.update(
    backbone=dict(_backbone, out_indices=(3,), pretrained='work_dirs/finetune_intern_vit_tiny_digits'),
    neck=dict(type=SimpleFeaturePyramid, out_channels=64, stride=14, num_outs=4),
)
