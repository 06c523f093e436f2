"""Attention-pooling probing of InternViT-6B-448px-V2_5 on ImageNet-1K, evaluated on six sets.

Command: torchrun --nproc_per_node 8 tools/train.py \
    configs/classification/attn_pool_intern_vit_6b_448px_v2_5_in1k_448.py --launcher pytorch
Evaluation alone: tools/test.py with the same config and a checkpoint.
Hardware: 8 × 80 GB with 128 images per process (estimated, not run); published: 64 with 16 each.
Expected top-1 (InternVL 2.5 paper, table 14): IN-1K 88.3, ReaL 91.2, V2 81.3, A 86.9, R 92.4, Sketch 70.8 (mean 85.2).
"""

from mmengine.config import read_base

with read_base():
    from .._base_.benchmarks.imagenet_448 import *
    from .._base_.data.imagenet_448 import *
    from .._base_.models.attn_pool_probe import *
    from .._base_.models.intern_vit_6b_448px_v2_5 import backbone as _backbone
    from .._base_.runtime import *
    from .._base_.schedules.probe_sgd_10e import *

model.update(backbone=dict(_backbone, frozen='all'))
default_hooks['checkpoint'].update(by_epoch=True, interval=1, save_best='in1k/top1', trainable_only=True)
