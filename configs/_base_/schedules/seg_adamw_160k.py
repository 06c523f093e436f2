"""seg_adamw_80k.py at twice the length, as published for the original ViT-Adapters; evaluation every 16,000 steps."""

from mmengine.config import read_base

with read_base():
    from .seg_adamw_80k import *

param_scheduler[1].update(end=160001)
train_cfg.update(max_iters=160000, val_interval=16000)
