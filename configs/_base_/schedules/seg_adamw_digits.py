"""Segmentation of DigitScenes: AdamW, 6 epochs with one of warm-up, cosine to 0, clipping.

The decay rate of 1 only keeps weight decay off norms, biases and layer scales.
"""

from mmengine.optim import OptimWrapper
from torch.optim import AdamW

from internvl_mm.engine.loops import EpochTrainLoop
from internvl_mm.engine.optim import CosineAbsolute, LayerDecay

optim_wrapper = dict(
    type=OptimWrapper,
    optimizer=dict(type=AdamW, lr=3e-3, betas=(0.9, 0.99), weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=5.0),
    constructor=LayerDecay,
    paramwise_cfg=dict(decay_rate=1.0),
)
param_scheduler = [dict(type=CosineAbsolute, warmup=1, end=6, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(type=EpochTrainLoop, max_epochs=6, val_interval=6)
