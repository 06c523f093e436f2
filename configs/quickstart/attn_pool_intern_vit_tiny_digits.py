"""An attention-pooling probe on the frozen tiny InternViT of finetune_intern_vit_tiny_digits.py.

Command: python tools/train.py configs/quickstart/attn_pool_intern_vit_tiny_digits.py
Hardware: 2 CPU cores, fp32; 45 s of processor time.
Expected: top-1 97.5 on the test digits (measured, backbone at 97.8); the published recipe without mixing and averaging.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.benchmarks.digits import *
    from .._base_.data.digit_scenes import *
    from .._base_.models.attn_pool_probe import *
    from .._base_.models.intern_vit_tiny import backbone as _backbone
    from .._base_.runtime import *
    from .._base_.schedules.probe_sgd_10e import *

model.update(
    backbone=dict(_backbone, frozen='all', pretrained='work_dirs/finetune_intern_vit_tiny_digits'),
)
model['head'].update(num_classes=10)
model['data_preprocessor'].update(batch_augment=None)
model['neck'].update(num_heads=4)
auto_scale_lr.update(base_batch_size=64)
# 220 steps are too few for an average over 500.
custom_hooks = []
