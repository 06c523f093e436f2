"""Mask2Former: as seg_adamw_80k.py with the rate, the power and the clipping of its paper; halved to 80,000 iterations."""

from mmengine.config import read_base

with read_base():
    from .seg_adamw_80k import *

optim_wrapper['optimizer'].update(lr=1e-4)
optim_wrapper.update(clip_grad=dict(max_norm=0.01))
param_scheduler[1].update(power=0.9)
