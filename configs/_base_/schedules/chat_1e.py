"""One epoch: AdamW, warm-up over 3 % of the steps, half a cosine to 0, gradients clipped to norm 1.

A config sets learning rate, weight decay and accumulation. Source: InternVL's shell scripts for chat models.
"""

from mmengine.optim import OptimWrapper
from torch.optim import AdamW

from internvl_mm.engine.loops import EpochTrainLoop
from internvl_mm.engine.optim import CosineAfterWarmup
from internvl_mm.engine.part_rates import PartRates

optim_wrapper = dict(
    type=OptimWrapper,
    optimizer=dict(type=AdamW, lr=4e-5, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05),
    clip_grad=dict(max_norm=1.0),
    constructor=PartRates,
)
# A fraction of the epoch.
param_scheduler = [
    dict(type=CosineAfterWarmup, warmup=0.03, end=1, by_epoch=True, convert_to_iter_based=True)
]
train_cfg = dict(type=EpochTrainLoop, max_epochs=1)
