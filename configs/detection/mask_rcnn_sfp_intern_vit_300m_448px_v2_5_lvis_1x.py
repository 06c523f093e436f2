"""Mask R-CNN with a simple feature pyramid on InternViT-300M-448px-V2_5, all weights, LVIS v1, 12 epochs.

Command: torchrun --nproc_per_node 8 tools/train.py \
    configs/detection/mask_rcnn_sfp_intern_vit_300m_448px_v2_5_lvis_1x.py --launcher pytorch
Hardware: 8 × 80 GB with 2 pictures per process (estimated, not run).
Expected: no number was published; the recipe is ours and was not run.
"""

from mmengine.config import read_base

from internvl_mm.models.necks import SimpleFeaturePyramid

with read_base():
    from .._base_.benchmarks.lvis_detection import *
    from .._base_.data.lvis_detection import *
    from .._base_.models.intern_vit_300m_448px_v2_5_windows import backbone as _backbone
    from .._base_.models.mask_rcnn import *
    from .._base_.runtime import *
    from .._base_.schedules.detection_adamw_1x import *
    from .._base_.strategies.ddp import *

model.update(backbone=_backbone, neck=dict(type=SimpleFeaturePyramid))
model['detector']['roi_head']['bbox_head'].update(num_classes=1203)
model['detector']['roi_head']['mask_head'].update(num_classes=1203)
model['detector']['test_cfg']['rcnn'].update(score_thr=0.0001, max_per_img=300)
optim_wrapper.update(paramwise_cfg=dict(decay_rate=0.8))
default_hooks['checkpoint'].update(by_epoch=True, interval=1, save_best='lvis/bbox_AP')
