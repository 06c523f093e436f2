"""Supervised fine-tuning of InternVL-Chat-V1-2, all parts; the mixture has 1,268 k samples.

Command: torchrun --nproc-per-node 8 tools/train.py configs/chat/sft_internvl_chat_v1_2.py --launcher pytorch
Hardware: 64 GPUs of 80 GB, global batch 512 (8 per GPU).
Expected: not run; the source is the published recipe in InternVL's shell folder.
"""

from mmengine.config import read_base

from internvl_mm.preprocess.tiling import SquashTiling

with read_base():
    from .._base_.data.chat_mixture import *
    from .._base_.models.chat.internvl_chat_v1_2 import model as _chat
    from .._base_.models.chat_tuning import *
    from .._base_.runtime import *
    from .._base_.schedules.chat_1e import *
    from .._base_.strategies.zero3 import *

model.update(chat=_chat, tokenizer='pretrained/Nous-Hermes-2-Yi-34B', add_tokens=True)
train_dataloader['dataset']['encoder'].update(
    tokenizer='pretrained/Nous-Hermes-2-Yi-34B',
    template='Hermes-2',
    system_message=_chat['system_message'],
    max_length=2048,
    add_tokens=True,
)
train_dataloader['dataset']['encoder']['tiling'] = dict(type=SquashTiling)
train_dataloader['batch_size'] = train_dataloader['sampler']['batch_size'] = 8
model['vision']['train'] = 'all'
model['chat'] = dict(_chat, pretrained_connector='pretrained/hermes_2_yi_34b.pth')
model['chat']['vision'] = dict(model['chat']['vision'], drop_path_rate=0.4)
optim_wrapper['optimizer'].update(lr=1e-5)
