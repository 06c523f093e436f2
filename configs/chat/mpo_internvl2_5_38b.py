"""Mixed preference optimisation of InternVL2.5-38B, all parts.

Command: torchrun --nproc-per-node 8 tools/train.py configs/chat/mpo_internvl2_5_38b.py --launcher pytorch
Hardware: 512 GPUs of 80 GB, one pair per GPU.
Expected: not run; the source is the published recipe in InternVL's shell folder.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.data.chat_preferences import *
    from .._base_.models.chat.internvl2_5_38b import model as _chat
    from .._base_.models.chat_preference import *
    from .._base_.runtime import *
    from .._base_.schedules.chat_1e import *
    from .._base_.strategies.zero3 import *

model.update(
    chat=dict(_chat, pretrained='pretrained/InternVL2_5-38B'), tokenizer='pretrained/InternVL2_5-38B'
)
train_dataloader['dataset']['encoder'].update(
    tokenizer='pretrained/InternVL2_5-38B', template='internvl2_5', max_length=8192
)
model['chat']['vision'] = dict(model['chat']['vision'], drop_path_rate=0.4)
optim_wrapper['optimizer'].update(lr=1e-6)
