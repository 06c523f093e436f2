"""Full tuning on ADE20K: UperNet on InternViT-6B-448px-V2_5, all weights.

Command: torchrun --nproc_per_node 8 tools/train.py \
    configs/segmentation/upernet_full_intern_vit_6b_448px_v2_5_ade20k_504.py --launcher pytorch
Evaluation alone: tools/test.py with the same config and a checkpoint.
Hardware: 8 × 80 GB with 2 pictures per process (estimated, not run).
Expected mIoU (InternVL 2.5 paper, table 15): 58.6.
Published with ZeRO-1, which needs more memory for the same numbers.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.benchmarks.ade20k import *
    from .._base_.data.ade20k import *
    from .._base_.models.intern_vit_6b_448px_v2_5 import backbone as _backbone
    from .._base_.models.seg_upernet import *
    from .._base_.runtime import *
    from .._base_.schedules.seg_adamw_80k import *
    from .._base_.strategies.zero2 import *

model.update(
    backbone=dict(
        _backbone,
        image_size=504,
        drop_path_rate=0.4,
        gradient_checkpointing=True,
        out_indices=(11, 22, 33, 44),
    ),
)
model['auxiliary_head'].update(in_index=2)
optim_wrapper['paramwise_cfg'].update(decay_rate=0.95)
default_hooks['checkpoint'].update(save_best='ade20k/mIoU')
