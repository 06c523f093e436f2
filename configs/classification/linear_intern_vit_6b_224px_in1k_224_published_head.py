"""The published linear head on InternViT-6B-224px: evaluation alone.

Command: python tools/test.py configs/classification/linear_intern_vit_6b_224px_in1k_224_published_head.py
Hardware: one GPU of 40 GB.
Expected top-1 / top-5 (InternVL README): IN-1K 88.230 / 98.474, ReaL 90.437 / 98.567, V2 79.940 / 95.340,
A 77.479 / 92.737, R 89.777 / 97.023, Sketch 69.117 / 88.341. IN-1K should agree within 0.02.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.benchmarks.imagenet_224 import *
    from .._base_.models.intern_vit_6b_224px import backbone as _backbone
    from .._base_.models.linear_probe import *
    from .._base_.runtime import *

model.update(backbone=dict(_backbone, frozen='all'))
model['head'].update(pretrained='pretrained/intern_vit_6b_224px_head.pth')
