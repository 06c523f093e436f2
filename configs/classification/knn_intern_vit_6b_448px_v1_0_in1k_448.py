"""k-NN probing of InternViT-6B-448px-V1-0 on ImageNet-1K: class tokens, evaluated on six sets.

Command: torchrun --nproc_per_node 8 tools/train.py configs/classification/knn_intern_vit_6b_448px_v1_0_in1k_448.py --launcher pytorch
Hardware: 8 × 80 GB for the features (estimated, not run); features are extracted once and kept in work_dirs/features.
Expected: no number was published; the method is that of DINO (Wu et al. 2018).
As in the published probes, the first 45 of the 48 blocks are used.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.benchmarks.imagenet_448 import *
    from .._base_.data.imagenet_448 import *
    from .._base_.data.imagenet_eval import _transform_448
    from .._base_.models.intern_vit_6b_448px_v1_0 import backbone as _backbone
    from .._base_.probes.knn import *
    from .._base_.runtime import *

model.update(backbone=dict(_backbone, num_hidden_layers=45, pretrained_depth=48, frozen='all'))
train_dataloader['dataset'].update(transform=_transform_448)
