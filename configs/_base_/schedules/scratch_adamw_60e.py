"""Training small models from scratch on small data: AdamW, 60 epochs with 3 of warm-up, cosine to 0, clipping.

The decay rate of 1 only keeps weight decay off norms, biases and layer scales.
"""

from mmengine.optim import OptimWrapper
from torch.optim import AdamW

from internvl_mm.engine.loops import EpochTrainLoop
from internvl_mm.engine.optim import CosineAbsolute, LayerDecay

optim_wrapper = dict(
    type=OptimWrapper,
    optimizer=dict(type=AdamW, lr=3e-3, betas=(0.9, 0.99), weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=1.0),
    constructor=LayerDecay,
    paramwise_cfg=dict(decay_rate=1.0),
)
param_scheduler = [dict(type=CosineAbsolute, warmup=3, end=60, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(type=EpochTrainLoop, max_epochs=60, val_interval=10)
