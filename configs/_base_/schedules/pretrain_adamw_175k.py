"""Pretraining on web pairs: AdamW, 175,000 iterations (28.7 billion pairs in batches of 164 thousand), cosine to 0.

As published for the contrastive stage; clipping is ours. Source: Chen et al. 2023 (arXiv 2312.14238), table 20.
"""

from mmengine.optim import OptimWrapper
from torch.optim import AdamW

from internvl_mm.engine.loops import IterTrainLoop
from internvl_mm.engine.optim import CosineAbsolute

optim_wrapper = dict(
    type=OptimWrapper,
    optimizer=dict(type=AdamW, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [dict(type=CosineAbsolute, warmup=5000, end=175_000, by_epoch=False)]
train_cfg = dict(type=IterTrainLoop, max_iters=175_000, val_interval=5000)
