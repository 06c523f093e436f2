"""Detectors on DigitScenes: AdamW, one epoch with a tenth of it as warm-up, cosine to 0, clipping."""

from mmengine.optim import OptimWrapper
from torch.optim import AdamW

from internvl_mm.engine.loops import EpochTrainLoop
from internvl_mm.engine.optim import CosineAbsolute, LayerDecay

optim_wrapper = dict(
    type=OptimWrapper,
    optimizer=dict(type=AdamW, lr=2e-3, betas=(0.9, 0.99), weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=5.0),
    constructor=LayerDecay,
    paramwise_cfg=dict(decay_rate=0.9),
)
param_scheduler = [dict(type=CosineAbsolute, warmup=0.1, end=1, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(type=EpochTrainLoop, max_epochs=1)
