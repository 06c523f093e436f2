"""k-NN voting on class tokens of the frozen tiny InternViT of finetune_intern_vit_tiny_digits.py.

Command: python tools/train.py configs/quickstart/knn_intern_vit_tiny_digits.py
Hardware: 2 CPU cores, seconds.
Expected: top-1 97.8 on the test digits (measured, backbone at 97.8);
    96.9 with the backbone of contrastive_intern_vit_tiny_digits.py, as in the quickstart (measured, seed 0).
"""

from mmengine.config import read_base

with read_base():
    from .._base_.benchmarks.digits import *
    from .._base_.data.digit_scenes import *
    from .._base_.models.intern_vit_tiny import backbone as _backbone
    from .._base_.probes.knn import *
    from .._base_.runtime import *

model.update(backbone=dict(_backbone, frozen='all', pretrained='work_dirs/finetune_intern_vit_tiny_digits'))
model['head'].update(num_classes=10)
