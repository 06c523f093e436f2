"""Linear probes of InternViT-300M-448px-V2_5 on cached features of 4 views: 12 settings in one pass.

Command: torchrun --nproc_per_node 8 tools/train.py configs/classification/linear_sweep_intern_vit_300m_448px_v2_5_in1k_448.py --launcher pytorch
Hardware: 8 × 80 GB for the features (estimated, not run); the sweep itself takes minutes.
Expected: no number was published; not run here.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.benchmarks.imagenet_448 import *
    from .._base_.data.imagenet_448 import *
    from .._base_.models.intern_vit_300m_448px_v2_5 import backbone as _backbone
    from .._base_.models.linear_probe import *
    from .._base_.probes.sweep import *
    from .._base_.runtime import *

model.update(backbone=dict(_backbone, frozen='all'))
features = dict(views=4, dtype='bf16')
