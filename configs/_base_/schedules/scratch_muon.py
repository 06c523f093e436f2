"""Training small models from scratch in minutes: Muon for matrices, AdamW for the rest, cosine to 0, clipping.

Muon (Jordan et al. 2024, timm's implementation) needs whole matrices: ZeRO, which flattens them, needs another
optimiser. On DigitScenes it takes a third of AdamW's steps (docs/log.md). A config says how many epochs.
"""

from mmengine.optim import OptimWrapper

from internvl_mm.engine.loops import EpochTrainLoop
from internvl_mm.engine.muon import Muon, MuonLayerDecay
from internvl_mm.engine.optim import CosineAbsolute

optim_wrapper = dict(
    type=OptimWrapper,
    optimizer=dict(
        type=Muon,
        lr=0.015,  # of matrices; their update is scaled to the size of AdamW's (0.2 root mean square)
        fallback_lr_scale=0.2,  # vectors, positions, class token: AdamW at 3e-3
        momentum=0.95,
        nesterov=True,
        betas=(0.9, 0.99),
        weight_decay=0.05,
    ),
    clip_grad=dict(max_norm=1.0),
    constructor=MuonLayerDecay,  # a decay rate of 1: only keeps weight decay off norms, biases and layer scales
    paramwise_cfg=dict(decay_rate=1.0),
)
param_scheduler = [dict(type=CosineAbsolute, warmup=1, end=20, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(type=EpochTrainLoop, max_epochs=20, val_interval=20)
