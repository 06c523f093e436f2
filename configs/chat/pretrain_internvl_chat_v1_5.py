"""Pretraining of InternVL-Chat-V1-5: vision and projector, language model frozen.

Command: torchrun --nproc-per-node 8 tools/train.py configs/chat/pretrain_internvl_chat_v1_5.py --launcher pytorch
Hardware: 256 GPUs of 80 GB, global batch 2048 (4 per GPU).
Expected: not run; the source is the published recipe in InternVL's shell folder.
"""

from mmengine.config import read_base

from internvl_mm.data.samplers import EpochSampler

with read_base():
    from .._base_.data.chat_mixture import *
    from .._base_.models.chat.internvl_chat_v1_5 import model as _chat
    from .._base_.models.chat_tuning import *
    from .._base_.runtime import *
    from .._base_.schedules.chat_pretrain_1e import *
    from .._base_.strategies.zero3 import *

model.update(chat=_chat, tokenizer='pretrained/internlm2-chat-20b', add_tokens=True)
train_dataloader['dataset']['encoder'].update(
    tokenizer='pretrained/internlm2-chat-20b',
    template='internlm2-chat',
    system_message=_chat['system_message'],
    add_tokens=True,
)
train_dataloader['dataset']['encoder']['tiling'].update(max_num=12)
model['vision']['train'] = 'all'
model['language']['train'] = 'none'
train_dataloader['sampler'] = dict(type=EpochSampler)
model['chat']['vision'] = dict(model['chat']['vision'], drop_path_rate=0.2)
optim_wrapper['optimizer'].update(lr=1e-5)
optim_wrapper['accumulative_counts'] = 2
