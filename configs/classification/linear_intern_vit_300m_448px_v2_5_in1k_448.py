"""Linear probing of InternViT-300M-448px-V2_5 on ImageNet-1K, evaluated on six sets.

Command: torchrun --nproc_per_node 8 tools/train.py \
    configs/classification/linear_intern_vit_300m_448px_v2_5_in1k_448.py --launcher pytorch
Evaluation alone: tools/test.py with the same config and a checkpoint.
Hardware: 8 × 40 GB are ample (estimated, not run).
Expected: no number was published; the recipe is that of the 6B probes.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.benchmarks.imagenet_448 import *
    from .._base_.data.imagenet_448 import *
    from .._base_.models.intern_vit_300m_448px_v2_5 import backbone as _backbone
    from .._base_.models.linear_probe import *
    from .._base_.runtime import *
    from .._base_.schedules.probe_sgd_10e import *

model.update(backbone=dict(_backbone, frozen='all'))
default_hooks['checkpoint'].update(by_epoch=True, interval=1, save_best='in1k/top1', trainable_only=True)
