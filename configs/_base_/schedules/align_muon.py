"""Joining parts on small data: Muon for matrices, AdamW for the rest, 12 epochs with 1 of warm-up, cosine to 0, clipping.

As scratch_muon.py, with a rate for each part: of a model with a QLLaMA (vision, qllama) or of a chat model.
"""

from mmengine.optim import OptimWrapper

from internvl_mm.engine.loops import EpochTrainLoop
from internvl_mm.engine.muon import Muon, MuonPartRates
from internvl_mm.engine.optim import CosineAbsolute

optim_wrapper = dict(
    type=OptimWrapper,
    optimizer=dict(
        type=Muon,
        lr=0.015,  # of matrices; their update is scaled to the size of AdamW's (0.2 root mean square)
        fallback_lr_scale=0.2,  # vectors, tables of a vocabulary, the temperature: AdamW at 3e-3
        momentum=0.95,
        nesterov=True,
        betas=(0.9, 0.99),
        weight_decay=0.05,
    ),
    clip_grad=dict(max_norm=1.0),
    constructor=MuonPartRates,
    paramwise_cfg=dict(lr_mult=dict()),  # all parts at the same rate
)
param_scheduler = [dict(type=CosineAbsolute, warmup=1, end=12, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(type=EpochTrainLoop, max_epochs=12, val_interval=12)
