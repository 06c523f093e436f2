"""Head tuning on Cityscapes: UperNet on the frozen InternViT-6B-448px-V2_5.

Command: torchrun --nproc_per_node 8 tools/train.py \
    configs/segmentation/upernet_frozen_intern_vit_6b_448px_v2_5_cityscapes_504.py --launcher pytorch
Evaluation alone: tools/test.py with the same config and a checkpoint.
Hardware: 8 × 80 GB with 2 pictures per process (estimated, not run).
Expected: no number was published; the recipe is ours and was not run.
As published, the auxiliary head reads map 1 here and map 2 in full tuning.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.benchmarks.cityscapes import *
    from .._base_.data.cityscapes import *
    from .._base_.models.intern_vit_6b_448px_v2_5 import backbone as _backbone
    from .._base_.models.seg_upernet import *
    from .._base_.runtime import *
    from .._base_.schedules.seg_adamw_80k import *

model.update(backbone=dict(_backbone, image_size=504, frozen='all', out_indices=(11, 22, 33, 44)))
model['decode_head'].update(num_classes=19)
model['auxiliary_head'].update(num_classes=19)
default_hooks['checkpoint'].update(save_best='cityscapes/mIoU', trainable_only=True)
