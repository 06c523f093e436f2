"""UperNet of 512 channels on ViT-Adapter-Small, all weights, DeiT start, ADE20K, 160k iterations.

Command: torchrun --nproc_per_node 8 tools/train.py \
    configs/segmentation/upernet_vit_adapter_small_ade20k_512.py --launcher pytorch
Evaluation alone: tools/test.py with the same config and a checkpoint.
Hardware: 8 × 24 GB with 2 pictures per process (estimated, not run); bf16 here where the published run took fp16.
Expected mIoU (readme of ViT-Adapter): 46.2 single scale, 47.1 multi-scale; not run here.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.benchmarks.ade20k_512_rounded import *
    from .._base_.data.ade20k_512 import *
    from .._base_.models.seg_upernet_adapter import *
    from .._base_.models.vit_adapter_small_seg import backbone as _backbone
    from .._base_.runtime import *
    from .._base_.schedules.seg_adamw_160k import *
    from .._base_.strategies.ddp import *

model.update(backbone=_backbone)
model['decode_head'].update(channels=512)
model['auxiliary_head'].update(channels=256)
optim_wrapper['optimizer'].update(lr=6e-5, weight_decay=0.01)
optim_wrapper['paramwise_cfg'].update(decay_rate=0.95)
default_hooks['checkpoint'].update(save_best='ade20k/mIoU')
