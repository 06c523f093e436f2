"""Stage 2 on small data: AdamW, 12 epochs with 1 of warm-up, cosine to 0, clipping; norms and biases undecayed."""

from mmengine.optim import OptimWrapper
from torch.optim import AdamW

from internvl_mm.engine.loops import EpochTrainLoop
from internvl_mm.engine.optim import CosineAbsolute

optim_wrapper = dict(
    type=OptimWrapper,
    optimizer=dict(type=AdamW, lr=3e-3, betas=(0.9, 0.99), weight_decay=0.05, fused=True),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [dict(type=CosineAbsolute, warmup=1, end=12, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(type=EpochTrainLoop, max_epochs=12, val_interval=12)
