"""Supervised fine-tuning of Mini-InternVL-Chat-4B-V1-5 after its pretraining, all parts.

Command: torchrun --nproc-per-node 8 tools/train.py configs/chat/sft_mini_internvl_chat_4b_v1_5.py --launcher pytorch
Hardware: 128 GPUs of 80 GB, global batch 1024 (4 per GPU).
Expected: not run; the source is the published recipe in InternVL's shell folder.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.data.chat_mixture import *
    from .._base_.models.chat.mini_internvl_chat_4b_v1_5 import model as _chat
    from .._base_.models.chat_tuning import *
    from .._base_.runtime import *
    from .._base_.schedules.chat_1e import *
    from .._base_.strategies.zero1 import *

model.update(
    chat=dict(_chat, pretrained='work_dirs/pretrain_mini_internvl_chat_4b_v1_5/export'),
    tokenizer='work_dirs/pretrain_mini_internvl_chat_4b_v1_5/export',
)
train_dataloader['dataset']['encoder'].update(
    tokenizer='work_dirs/pretrain_mini_internvl_chat_4b_v1_5/export',
    template='phi3-chat',
    system_message=_chat['system_message'],
    max_length=8192,
)
train_dataloader['dataset']['encoder']['tiling'].update(max_num=12)
model['vision']['train'] = 'all'
model['chat']['vision'] = dict(model['chat']['vision'], drop_path_rate=0.1)
optim_wrapper['accumulative_counts'] = 2
