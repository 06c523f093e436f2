"""Adaptation of InternVL2-1B to a domain, all parts, on packed conversations with square averaging.

Command: torchrun --nproc-per-node 8 tools/train.py configs/chat/adapt_internvl2_1b_packed.py --launcher pytorch
Hardware: 8 GPUs of 80 GB, one pack of up to 16,384 tokens per GPU.
Expected: not run; the source is the published recipe in InternVL's shell folder.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.data.chat_packed import *
    from .._base_.models.chat.internvl2_1b import model as _chat
    from .._base_.models.chat_tuning import *
    from .._base_.runtime import *
    from .._base_.schedules.chat_1e import *
    from .._base_.strategies.zero1 import *

model.update(
    chat=dict(_chat, pretrained='pretrained/InternVL2-1B'),
    tokenizer='pretrained/InternVL2-1B',
    reduction='square',
)
model['vision']['train'] = 'all'
train_dataloader['dataset']['dataset']['encoder'].update(
    tokenizer='pretrained/InternVL2-1B', template='Hermes-2'
)
model['chat']['vision'] = dict(model['chat']['vision'], drop_path_rate=0.1)
optim_wrapper['optimizer'].update(lr=1e-5, weight_decay=0.01)
