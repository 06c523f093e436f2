"""ATSS with a simple feature pyramid on InternViT-300M-448px-V2_5, all weights, COCO, 12 epochs.

Command: torchrun --nproc_per_node 8 tools/train.py \
    configs/detection/atss_sfp_intern_vit_300m_448px_v2_5_coco_1x.py --launcher pytorch
Hardware: 8 × 80 GB with 2 pictures per process (estimated, not run).
Expected: no number was published; the recipe is ours, in the manner of ViTDet, and was not run.
"""

from mmdet.models.necks import FPN
from mmengine.config import read_base

from internvl_mm.models.necks import SimpleFeaturePyramid

with read_base():
    from .._base_.benchmarks.coco_detection import *
    from .._base_.data.coco_detection import *
    from .._base_.models.atss import *
    from .._base_.models.intern_vit_300m_448px_v2_5_windows import backbone as _backbone
    from .._base_.runtime import *
    from .._base_.schedules.detection_adamw_1x import *
    from .._base_.strategies.ddp import *

_fpn = dict(type=FPN, in_channels=[256] * 4, out_channels=256, num_outs=5)
_fpn.update(start_level=1, add_extra_convs='on_output')
model.update(backbone=_backbone, neck=[dict(type=SimpleFeaturePyramid, dim=1024, num_outs=4), _fpn])
optim_wrapper.update(paramwise_cfg=dict(decay_rate=0.8))
strategy.update(find_unused_parameters=True)  # the finest map has no head
train_dataloader['dataset']['pipeline'][1].update(with_mask=False)
benchmarks['coco']['metrics'][0].update(kinds=('bbox',))
default_hooks['checkpoint'].update(by_epoch=True, interval=1, save_best='coco/bbox_AP')
