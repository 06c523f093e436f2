"""UperNet on a ViT-Adapter around the frozen InternViT-300M-448px-V2_5, on COCO-Stuff 164k.

Command: torchrun --nproc_per_node 8 tools/train.py \
    configs/segmentation/upernet_vit_adapter_300m_coco_stuff_512.py --launcher pytorch
Evaluation alone: tools/test.py with the same config and a checkpoint.
Hardware: 8 × 80 GB with 2 pictures per process (estimated, not run).
Expected: no number was published; the recipe is ours and was not run.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.benchmarks.coco_stuff_512 import *
    from .._base_.data.coco_stuff_512 import *
    from .._base_.models.seg_upernet_adapter import *
    from .._base_.models.vit_adapter_300m import backbone as _backbone
    from .._base_.runtime import *
    from .._base_.schedules.seg_adamw_80k import *

model.update(backbone=_backbone)
model['decode_head'].update(num_classes=171)
model['auxiliary_head'].update(num_classes=171)
optim_wrapper['paramwise_cfg'].update(decay_rate=0.95)
default_hooks['checkpoint'].update(save_best='coco_stuff/mIoU', trainable_only=True)
