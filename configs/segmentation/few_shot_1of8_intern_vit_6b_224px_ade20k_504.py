"""Few-shot tuning on 1/8 of ADE20K: InternViT-6B-224px, all weights, with the linear head.

Command: torchrun --nproc_per_node 8 tools/train.py \
    configs/segmentation/few_shot_1of8_intern_vit_6b_224px_ade20k_504.py --launcher pytorch
Evaluation alone: tools/test.py with the same config and a checkpoint.
Hardware: 8 × 80 GB with 2 pictures per process (estimated, not run).
Expected mIoU (InternVL repository): 50.0; the published subset depended on the seed and was not kept.
As published, the long side of a test picture is at most 2016 here, and not limited in the other configs.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.benchmarks.ade20k_part import *
    from .._base_.data.ade20k_part import *
    from .._base_.models.seg_few_shot_6b_224px import *
    from .._base_.runtime import *
    from .._base_.schedules.seg_adamw_80k import *
    from .._base_.strategies.zero2 import *

train_dataloader['dataset'].update(part=8, subset_file='data/ade/subsets/1of8.json')
optim_wrapper['paramwise_cfg'].update(decay_rate=0.95)
param_scheduler[0].update(end=201)
param_scheduler[1].update(end=10001)
train_cfg.update(max_iters=10000)
default_hooks['checkpoint'].update(save_best='ade20k/mIoU')
