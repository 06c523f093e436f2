"""Linear segmentation of the frozen InternViT-6B-448px-V1-2 on ADE20K: batch norm and a 1×1 convolution.

Command: torchrun --nproc_per_node 8 tools/train.py \
    configs/segmentation/linear_intern_vit_6b_448px_v1_2_ade20k_504.py --launcher pytorch
Evaluation alone: tools/test.py with the same config and a checkpoint.
Hardware: 8 × 80 GB with 2 pictures per process (estimated, not run).
Expected mIoU (InternVL 2.5 paper, table 15): 40.7.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.benchmarks.ade20k import *
    from .._base_.data.ade20k import *
    from .._base_.models.intern_vit_6b_448px_v1_2 import backbone as _backbone
    from .._base_.models.seg_linear import *
    from .._base_.runtime import *
    from .._base_.schedules.seg_adamw_80k import *

model.update(backbone=dict(_backbone, image_size=504, frozen='all', out_indices=(44,)))
optim_wrapper['optimizer'].update(weight_decay=0.0)
default_hooks['checkpoint'].update(save_best='ade20k/mIoU', trainable_only=True)
