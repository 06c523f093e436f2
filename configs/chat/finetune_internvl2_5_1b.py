"""Second fine-tuning of InternVL2.5-1B: projector and language model.

Command: torchrun --nproc-per-node 8 tools/train.py configs/chat/finetune_internvl2_5_1b.py --launcher pytorch
Hardware: 8 GPUs of 80 GB, global batch 128 (4 per GPU).
Expected: not run; the source is the published recipe in InternVL's shell folder.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.data.chat_mixture import *
    from .._base_.models.chat.internvl2_5_1b import model as _chat
    from .._base_.models.chat_tuning import *
    from .._base_.runtime import *
    from .._base_.schedules.chat_1e import *
    from .._base_.strategies.zero1 import *

model.update(chat=dict(_chat, pretrained='pretrained/InternVL2_5-1B'), tokenizer='pretrained/InternVL2_5-1B')
train_dataloader['dataset']['encoder'].update(
    tokenizer='pretrained/InternVL2_5-1B', template='internvl2_5', max_length=8192
)
model['chat']['vision'] = dict(model['chat']['vision'], drop_path_rate=0.1)
optim_wrapper['optimizer'].update(weight_decay=0.01)
optim_wrapper['accumulative_counts'] = 4
