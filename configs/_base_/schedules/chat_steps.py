"""A number of steps on packed rows, half a cosine to 0 after a warm-up: the stages of InternVL2.5.

A config sets the numbers of ``train_cfg`` and ``param_scheduler``, learning rate and weight decay.
"""

from mmengine.config import read_base

from internvl_mm.engine.loops import IterTrainLoop
from internvl_mm.engine.optim import CosineAfterWarmup

with read_base():
    from .chat_1e import optim_wrapper

param_scheduler = [dict(type=CosineAfterWarmup, warmup=100, end=100_000, by_epoch=False)]
train_cfg = dict(type=IterTrainLoop, max_iters=100_000)
