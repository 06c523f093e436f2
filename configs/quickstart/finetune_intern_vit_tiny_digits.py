"""A tiny InternViT trained from scratch on DigitScenes, all parameters.

Command: OMP_NUM_THREADS=1 python tools/train.py configs/quickstart/finetune_intern_vit_tiny_digits.py
Hardware: 2 CPU cores, fp32; 150 s and 194 s in two runs on a noisy machine.
Expected: top-1 97.8 on 360 digits that were not trained on (measured, seed 0: see docs/log.md).
"""

from mmengine.config import read_base

from internvl_mm.models.losses import ClassificationLoss
from internvl_mm.models.necks import ClsPatchConcat

with read_base():
    from .._base_.benchmarks.digits import *
    from .._base_.data.digit_scenes import *
    from .._base_.models.finetune import *
    from .._base_.models.intern_vit_tiny import backbone as _backbone
    from .._base_.runtime import *
    from .._base_.schedules.scratch_adamw_60e import *

model.update(
    backbone=_backbone,
    neck=dict(type=ClsPatchConcat),
    loss=dict(type=ClassificationLoss, label_smoothing=0.1),
)
model['head'].update(num_classes=10)
model['data_preprocessor'].update(batch_augment=None)
