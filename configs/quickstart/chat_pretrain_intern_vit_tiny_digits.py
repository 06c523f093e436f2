"""Projector and language model of a tiny chat model learn to talk about digits; the vision tower stays as it is.

Command: OMP_NUM_THREADS=1 python tools/train.py configs/quickstart/chat_pretrain_intern_vit_tiny_digits.py
    --cfg-options model.chat.vision.pretrained=work_dirs/finetune_intern_vit_tiny_digits
Hardware: 1 CPU core, fp32.
Expected: exact match 61.5 on 600 questions (how many 94.5, where 45.5, which 44.5; measured, seed 0, with the
    backbone of seg_upernet_full_intern_vit_tiny_digits.py).
"""

from mmengine.config import read_base

from internvl_mm.engine.hooks import AnswerPicturesHook

with read_base():
    from .._base_.data.digit_chat import *
    from .._base_.models.chat_tiny import *
    from .._base_.runtime import *
    from .._base_.schedules.align_muon import *

default_hooks['pictures'] = dict(type=AnswerPicturesHook)
optim_wrapper['optimizer'].update(lr=0.008)
param_scheduler[0].update(end=7)
train_cfg.update(max_epochs=7, val_interval=7)
