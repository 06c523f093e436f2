"""Second fine-tuning of InternVL-Chat-V1-2: projector and language model, static 448-pixel images.

Command: torchrun --nproc-per-node 8 tools/train.py configs/chat/finetune_internvl_chat_v1_2.py --launcher pytorch
Hardware: 16 GPUs of 80 GB, global batch 128 (4 per GPU).
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

model.update(
    chat=dict(_chat, pretrained='pretrained/InternVL-Chat-V1-2'), tokenizer='pretrained/InternVL-Chat-V1-2'
)
train_dataloader['dataset']['encoder'].update(
    tokenizer='pretrained/InternVL-Chat-V1-2',
    template='Hermes-2',
    system_message=_chat['system_message'],
    max_length=2048,
)
train_dataloader['dataset']['encoder']['tiling'] = dict(type=SquashTiling)
optim_wrapper['optimizer'].update(lr=1e-5)
optim_wrapper['accumulative_counts'] = 2
