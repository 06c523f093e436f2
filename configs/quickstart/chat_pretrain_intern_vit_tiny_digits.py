"""Projector and language model of a tiny chat model learn to talk about digits; the vision tower stays as it is.

Command: OMP_NUM_THREADS=1 python tools/train.py configs/quickstart/chat_pretrain_intern_vit_tiny_digits.py
    --cfg-options model.chat.vision.pretrained=work_dirs/finetune_intern_vit_tiny_digits
Hardware: 1 CPU core, fp32.
Expected: exact match 62.7 on 600 questions (how many 97.0, where 52.5, which 38.5; measured, seed 0, with the
    backbone of seg_upernet_full_intern_vit_tiny_digits.py).
"""

from mmengine.config import read_base
from mmengine.optim import OptimWrapper
from timm.optim import Muon

from internvl_mm.engine.hooks import AnswerPicturesHook
from internvl_mm.engine.loops import EpochTrainLoop
from internvl_mm.engine.muon import MuonPartRates
from internvl_mm.engine.optim import CosineAbsolute

with read_base():
    from .._base_.data.digit_chat import *
    from .._base_.models.chat_tiny import *
    from .._base_.runtime import *

default_hooks['pictures'] = dict(type=AnswerPicturesHook)
optim_wrapper = dict(
    type=OptimWrapper,
    optimizer=dict(
        type=Muon,
        lr=0.015,
        fallback_lr_scale=0.2,
        momentum=0.95,
        nesterov=True,
        betas=(0.9, 0.99),
        weight_decay=0.05,
    ),
    clip_grad=dict(max_norm=1.0),
    constructor=MuonPartRates,
)
param_scheduler = [dict(type=CosineAbsolute, warmup=1, end=12, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(type=EpochTrainLoop, max_epochs=12, val_interval=12)
