"""seg_linear_intern_vit_tiny_digits.py at full length: 25 epochs instead of 6.

Command: OMP_NUM_THREADS=1 python tools/train.py configs/quickstart/seg_linear_intern_vit_tiny_digits_full.py
Hardware: 2 CPU cores, fp32.
Expected: not run yet.
"""

from mmengine.config import read_base

with read_base():
    from .seg_linear_intern_vit_tiny_digits import *

param_scheduler[0].update(end=25)
train_cfg.update(max_epochs=25, val_interval=5)
