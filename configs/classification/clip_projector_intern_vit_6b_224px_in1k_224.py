"""Probing on the frozen CLIP projector of InternViT-6B-224px on ImageNet-1K, evaluated on six sets.

Command: torchrun --nproc_per_node 8 tools/train.py \
    configs/classification/clip_projector_intern_vit_6b_224px_in1k_224.py --launcher pytorch
Evaluation alone: tools/test.py with the same config and a checkpoint.
Hardware: 8 × 80 GB with 128 images per process (estimated, not run); published: 64 with 16 each.
Expected: no number was published for this probe.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.benchmarks.imagenet_224 import *
    from .._base_.data.imagenet_224 import *
    from .._base_.models.clip_projector_probe import *
    from .._base_.models.intern_vit_6b_224px import backbone as _backbone
    from .._base_.runtime import *
    from .._base_.schedules.probe_sgd_10e import *

model.update(backbone=dict(_backbone, frozen='all'))
default_hooks['checkpoint'].update(by_epoch=True, interval=1, save_best='in1k/top1', trainable_only=True)
