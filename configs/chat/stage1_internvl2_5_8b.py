"""Stage 1 of InternVL2.5-8B: projector alone, packed conversations.

Command: torchrun --nproc-per-node 8 tools/train.py configs/chat/stage1_internvl2_5_8b.py --launcher pytorch
Hardware: 512 GPUs of 80 GB, one pack of up to 16,384 tokens per GPU, 100,000 steps.
Expected: not run; the source is the published recipe in InternVL's shell folder.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.data.chat_packed_steps import *
    from .._base_.models.chat.internvl2_5_8b import model as _chat
    from .._base_.models.chat_tuning import *
    from .._base_.runtime import *
    from .._base_.schedules.chat_steps import *
    from .._base_.strategies.zero1 import *

model.update(
    chat=_chat,
    tokenizer='pretrained/internlm2_5-7b-chat',
    add_tokens=True,
    reduction='square',
    all_gather=True,
)
train_dataloader['dataset']['dataset']['encoder'].update(
    tokenizer='pretrained/internlm2_5-7b-chat', template='internvl2_5', add_tokens=True
)
model['language']['train'] = 'none'
optim_wrapper['optimizer'].update(lr=2e-4)
