"""Pretraining of InternVL-Chat-V1-5 with Nous-Hermes-2-Yi-34B: projector alone.

Command: torchrun --nproc-per-node 8 tools/train.py configs/chat/pretrain_internvl_chat_v1_5_yi_34b.py
    --launcher pytorch
Hardware: 256 GPUs of 80 GB, global batch 2048 (2 per GPU).
Expected: not run; the source is the published recipe in InternVL's shell folder.
"""

from mmengine.config import read_base

from internvl_mm.data.samplers import EpochSampler

with read_base():
    from .._base_.data.chat_mixture import *
    from .._base_.models.chat.internvl2_40b import model as _chat
    from .._base_.models.chat_tuning import *
    from .._base_.runtime import *
    from .._base_.schedules.chat_pretrain_1e import *
    from .._base_.strategies.zero3 import *

model.update(
    chat=dict(_chat, system_message='Answer the questions.'),
    tokenizer='pretrained/Nous-Hermes-2-Yi-34B',
    add_tokens=True,
)
train_dataloader['dataset']['encoder'].update(
    tokenizer='pretrained/Nous-Hermes-2-Yi-34B',
    template='Hermes-2',
    system_message='Answer the questions.',
    add_tokens=True,
)
train_dataloader['dataset']['encoder']['tiling'].update(max_num=12)
train_dataloader['batch_size'] = 2
train_dataloader['sampler'] = dict(type=EpochSampler)
model['language']['train'] = 'none'
optim_wrapper['optimizer'].update(lr=1e-4)
optim_wrapper['accumulative_counts'] = 4
