"""Few-shot tuning on 1/4 of ADE20K: InternViT-300M-448px-V2_5, all weights, with the linear head.

Command: torchrun --nproc_per_node 8 tools/train.py \
    configs/segmentation/few_shot_1of4_intern_vit_300m_448px_v2_5_ade20k_504.py --launcher pytorch
Evaluation alone: tools/test.py with the same config and a checkpoint.
Hardware: 8 × 80 GB with 2 pictures per process (estimated, not run).
Expected: no number was published; the recipe is ours and was not run.
As published, the long side of a test picture is at most 2016 here, and not limited in the other configs.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.benchmarks.ade20k_part import *
    from .._base_.data.ade20k_part import *
    from .._base_.models.seg_few_shot_300m_448px_v2_5 import *
    from .._base_.runtime import *
    from .._base_.schedules.seg_adamw_80k import *
    from .._base_.strategies.zero2 import *

train_dataloader['dataset'].update(part=4, subset_file='data/ade/subsets/1of4.json')
optim_wrapper['paramwise_cfg'].update(decay_rate=0.9)
param_scheduler[0].update(end=401)
param_scheduler[1].update(end=20001)
train_cfg.update(max_iters=20000)
default_hooks['checkpoint'].update(save_best='ade20k/mIoU')
