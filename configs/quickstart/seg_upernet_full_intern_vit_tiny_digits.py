"""UperNet on the tiny InternViT of finetune_intern_vit_tiny_digits.py, all weights: digits of a scene by pixel.

Command: OMP_NUM_THREADS=1 python tools/train.py configs/quickstart/seg_upernet_full_intern_vit_tiny_digits.py
Hardware: 2 CPU cores, fp32; some minutes.
Expected: mIoU 58.2 on 360 scenes of other digits (measured, seed 0, backbone of
    contrastive_intern_vit_tiny_digits.py).
"""

from mmengine.config import read_base

with read_base():
    from .._base_.benchmarks.digit_scenes_seg import *
    from .._base_.data.digit_scenes_seg import *
    from .._base_.models.intern_vit_tiny import backbone as _backbone
    from .._base_.models.seg_upernet_digits import *
    from .._base_.runtime import *
    from .._base_.schedules.scratch_muon import *

model.update(
    backbone=dict(_backbone, out_indices=(0, 1, 2, 3), pretrained='work_dirs/finetune_intern_vit_tiny_digits')
)
param_scheduler[0].update(end=4)
train_cfg.update(max_epochs=4, val_interval=4)
