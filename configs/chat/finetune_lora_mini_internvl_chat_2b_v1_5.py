"""Second fine-tuning of Mini-InternVL-Chat-2B-V1-5 with adapters of rank 16 in the language model.

Command: torchrun --nproc-per-node 8 tools/train.py configs/chat/finetune_lora_mini_internvl_chat_2b_v1_5.py --launcher pytorch
Hardware: 2 GPUs of 80 GB, global batch 16 (4 per GPU).
Expected: not run; the source is the published recipe in InternVL's shell folder.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.data.chat_mixture import *
    from .._base_.models.chat.mini_internvl_chat_2b_v1_5 import model as _chat
    from .._base_.models.chat_lora import *
    from .._base_.runtime import *
    from .._base_.schedules.chat_1e import *
    from .._base_.strategies.zero1 import *

model.update(
    chat=dict(_chat, pretrained='pretrained/Mini-InternVL-Chat-2B-V1-5'),
    tokenizer='pretrained/Mini-InternVL-Chat-2B-V1-5',
)
train_dataloader['dataset']['encoder'].update(
    tokenizer='pretrained/Mini-InternVL-Chat-2B-V1-5',
    template='internlm2-chat',
    system_message=_chat['system_message'],
)
train_dataloader['dataset']['encoder']['tiling'].update(max_num=12)
optim_wrapper['optimizer'].update(weight_decay=0.01)
optim_wrapper['accumulative_counts'] = 2
