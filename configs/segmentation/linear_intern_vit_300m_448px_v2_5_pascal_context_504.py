"""Linear segmentation of the frozen InternViT-300M-448px-V2_5 on Pascal Context: batch norm and a 1×1 convolution.

Command: torchrun --nproc_per_node 8 tools/train.py \
    configs/segmentation/linear_intern_vit_300m_448px_v2_5_pascal_context_504.py --launcher pytorch
Evaluation alone: tools/test.py with the same config and a checkpoint.
Hardware: 8 × 80 GB with 2 pictures per process (estimated, not run).
Expected: no number was published; the recipe is ours and was not run.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.benchmarks.pascal_context import *
    from .._base_.data.pascal_context import *
    from .._base_.models.intern_vit_300m_448px_v2_5 import backbone as _backbone
    from .._base_.models.seg_linear import *
    from .._base_.runtime import *
    from .._base_.schedules.seg_adamw_80k import *

model.update(backbone=dict(_backbone, image_size=504, frozen='all', out_indices=(23,)))
model['decode_head'].update(num_classes=59)
optim_wrapper['optimizer'].update(weight_decay=0.0)
default_hooks['checkpoint'].update(save_best='pascal_context/mIoU', trainable_only=True)
