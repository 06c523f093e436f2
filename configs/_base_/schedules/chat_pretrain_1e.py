"""One epoch with a warm-up of 100 steps: pretraining of V1.5 and Mini."""

from mmengine.config import read_base

from internvl_mm.engine.optim import CosineAfterSteps

with read_base():
    from .chat_1e import *

param_scheduler = [dict(type=CosineAfterSteps, warmup=100, end=1, by_epoch=True, convert_to_iter_based=True)]
