"""Mask2Former on the frozen InternViT-6B-448px-V2_5, on COCO-Stuff 164k.

Command: torchrun --nproc_per_node 8 tools/train.py \
    configs/segmentation/mask2former_frozen_intern_vit_6b_448px_v2_5_coco_stuff_504.py --launcher pytorch
Evaluation alone: tools/test.py with the same config and a checkpoint.
Hardware: 8 × 80 GB with 2 pictures per process (estimated, not run).
Expected: no number was published; the recipe is ours and was not run.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.benchmarks.coco_stuff import *
    from .._base_.data.coco_stuff import *
    from .._base_.models.intern_vit_6b_448px_v2_5 import backbone as _backbone
    from .._base_.models.seg_mask2former import *
    from .._base_.runtime import *
    from .._base_.schedules.seg_mask2former_80k import *

model.update(backbone=dict(_backbone, image_size=504, frozen='all', out_indices=(11, 22, 33, 44)))
model['decode_head'].update(num_classes=171)
default_hooks['checkpoint'].update(save_best='coco_stuff/mIoU', trainable_only=True)
