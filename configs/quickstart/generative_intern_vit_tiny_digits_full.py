"""generative_intern_vit_tiny_digits.py at full length: 40 epochs.

Command: OMP_NUM_THREADS=1 python tools/train.py configs/quickstart/generative_intern_vit_tiny_digits_full.py
Hardware: 2 CPU cores, fp32.
Expected: CIDEr-D 325.6 in English and 511.5 in Chinese, zero-shot top-1 93.1, loss of matching 0.21 (measured,
    seed 0).
"""

from mmengine.config import read_base

with read_base():
    from .generative_intern_vit_tiny_digits import *

param_scheduler[0].update(end=40)
train_cfg.update(max_epochs=40, val_interval=40)
