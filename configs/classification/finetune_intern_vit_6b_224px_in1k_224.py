"""Full fine-tuning of InternViT-6B-224px on ImageNet-1K, evaluated on six sets.

Command: torchrun --nproc_per_node 8 tools/train.py \
    configs/classification/finetune_intern_vit_6b_224px_in1k_224.py --launcher pytorch
Evaluation alone: tools/test.py with the same config and a checkpoint.
Hardware: 8 × 80 GB with 16 images per process and ZeRO-3 (estimated, not run).
Expected: no number was published; the recipe is ours and was not run.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.benchmarks.imagenet_224 import *
    from .._base_.data.imagenet_224 import *
    from .._base_.models.finetune import *
    from .._base_.models.intern_vit_6b_224px import backbone as _backbone
    from .._base_.runtime import *
    from .._base_.schedules.finetune_adamw_layer_decay_20e import *
    from .._base_.strategies.zero3 import *

optim_wrapper['paramwise_cfg'].update(decay_rate=0.95)
model.update(backbone=dict(_backbone, drop_path_rate=0.3, gradient_checkpointing=True))
train_dataloader.update(batch_size=16)
default_hooks['checkpoint'].update(by_epoch=True, interval=1, save_best='in1k/top1')
