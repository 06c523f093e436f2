"""Linear probing of InternViT-6B-224px at 448 pixels on ImageNet-1K, evaluated on six sets.

Command: torchrun --nproc_per_node 8 tools/train.py \
    configs/classification/linear_intern_vit_6b_224px_in1k_224to448.py --launcher pytorch
Evaluation alone: tools/test.py with the same config and a checkpoint.
Hardware: 8 × 80 GB with 128 images per process (estimated, not run); published: 64 with 16 each.
Expected top-1 (InternVL 2.5 paper, table 14): IN-1K 87.8, ReaL 90.2, V2 79.8, A 77.2, R 87.1, Sketch 65.8 (mean 81.3).
"""

from mmengine.config import read_base

with read_base():
    from .._base_.benchmarks.imagenet_448 import *
    from .._base_.data.imagenet_448 import *
    from .._base_.models.intern_vit_6b_224px import backbone as _backbone
    from .._base_.models.linear_probe import *
    from .._base_.runtime import *
    from .._base_.schedules.probe_sgd_10e import *

model.update(backbone=dict(_backbone, image_size=448, frozen='all'))
default_hooks['checkpoint'].update(by_epoch=True, interval=1, save_best='in1k/top1', trainable_only=True)
