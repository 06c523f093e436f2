"""k-NN probing of InternViT-6B-224px at 448 on ImageNet-1K: class tokens, evaluated on six sets.

Command: torchrun --nproc_per_node 8 tools/train.py configs/classification/knn_intern_vit_6b_224px_in1k_224to448.py --launcher pytorch
Hardware: 8 × 80 GB for the features (estimated, not run); features are extracted once and kept in work_dirs/features.
Expected: no number was published; the method is that of DINO (Wu et al. 2018).
"""

from mmengine.config import read_base

with read_base():
    from .._base_.benchmarks.imagenet_448 import *
    from .._base_.data.imagenet_448 import *
    from .._base_.data.imagenet_eval import _transform_448
    from .._base_.models.intern_vit_6b_224px import backbone as _backbone
    from .._base_.probes.knn import *
    from .._base_.runtime import *

model.update(backbone=dict(_backbone, image_size=448, frozen='all'))
train_dataloader['dataset'].update(transform=_transform_448)
