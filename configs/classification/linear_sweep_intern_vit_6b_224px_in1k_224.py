"""Linear probes of InternViT-6B-224px on cached features of 4 views: 12 settings in one pass.

Command: torchrun --nproc_per_node 8 tools/train.py configs/classification/linear_sweep_intern_vit_6b_224px_in1k_224.py --launcher pytorch
Hardware: 8 × 80 GB for the features (estimated, not run); the sweep itself takes minutes.
Expected: 88.2 IN-1K is the published end-to-end number (InternVL 2.5 paper, table 14); not run here.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.benchmarks.imagenet_224 import *
    from .._base_.data.imagenet_224 import *
    from .._base_.models.intern_vit_6b_224px import backbone as _backbone
    from .._base_.models.linear_probe import *
    from .._base_.probes.sweep import *
    from .._base_.runtime import *

model.update(backbone=dict(_backbone, frozen='all'))
features = dict(views=4, dtype='bf16')
