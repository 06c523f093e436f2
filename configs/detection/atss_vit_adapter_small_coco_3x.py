"""ATSS with FPN on ViT-Adapter-Small, all weights, COCO, 36 epochs, multi-scale.

Command: torchrun --nproc_per_node 8 tools/train.py \
    configs/detection/atss_vit_adapter_small_coco_3x.py --launcher pytorch
Hardware: 8 × 80 GB with 2 pictures per process (estimated, not run).
Expected: 49.6 box AP published in the readme of ViT-Adapter; not run here.
"""

from mmdet.models.necks import FPN
from mmengine.config import read_base

from internvl_mm.models.necks import BackboneMaps

with read_base():
    from .._base_.benchmarks.coco_detection import *
    from .._base_.data.coco_detection_multi_scale import *
    from .._base_.models.atss import *
    from .._base_.models.vit_adapter_small_detection import backbone as _backbone
    from .._base_.runtime import *
    from .._base_.schedules.detection_adamw_adapter_3x import *
    from .._base_.strategies.ddp import *

model.update(
    backbone=_backbone,
    neck=[
        dict(type=BackboneMaps, dim=384),
        dict(
            type=FPN,
            in_channels=[384] * 4,
            out_channels=256,
            start_level=1,
            add_extra_convs='on_output',
            num_outs=5,
        ),
    ],
)
strategy.update(find_unused_parameters=True)  # the finest map has no head
train_dataloader['dataset']['pipeline'][1].update(with_mask=False)
benchmarks['coco']['metrics'][0].update(kinds=('bbox',))
default_hooks['checkpoint'].update(by_epoch=True, interval=1, save_best='coco/bbox_AP')
