"""seg_upernet_frozen_intern_vit_tiny_digits.py at full length: 150 epochs instead of 15.

Command: OMP_NUM_THREADS=1 python tools/train.py configs/quickstart/seg_upernet_frozen_intern_vit_tiny_digits_full.py \
    --cfg-options model.backbone.pretrained=RUN/checkpoints/NAME
Hardware: 2 CPU cores, fp32.
Expected: not run yet.
"""

from mmengine.config import read_base

with read_base():
    from .seg_upernet_frozen_intern_vit_tiny_digits import *

param_scheduler[0].update(warmup=2, end=150)
train_cfg.update(max_epochs=150, val_interval=30)
