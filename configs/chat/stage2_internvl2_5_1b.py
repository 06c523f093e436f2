"""Stage 2 of InternVL2.5-1B: all parts, packed conversations.

Command: torchrun --nproc-per-node 8 tools/train.py configs/chat/stage2_internvl2_5_1b.py --launcher pytorch
Hardware: 512 GPUs of 80 GB, one pack of up to 16,384 tokens per GPU, 22,000 steps.
Expected: not run; the source is the published recipe in InternVL's shell folder.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.data.chat_packed_steps import *
    from .._base_.models.chat.internvl2_5_1b import model as _chat
    from .._base_.models.chat_tuning import *
    from .._base_.runtime import *
    from .._base_.schedules.chat_steps import *
    from .._base_.strategies.zero1 import *

model.update(
    chat=dict(_chat, pretrained='work_dirs/stage1_internvl2_5_1b/export'),
    tokenizer='work_dirs/stage1_internvl2_5_1b/export',
    reduction='square',
    all_gather=True,
)
train_dataloader['dataset']['dataset']['encoder'].update(
    tokenizer='work_dirs/stage1_internvl2_5_1b/export', template='internvl2_5'
)
model['vision']['train'] = 'all'
model['chat']['vision'] = dict(model['chat']['vision'], drop_path_rate=0.1)
optim_wrapper['optimizer'].update(weight_decay=0.01)
train_cfg['max_iters'] = param_scheduler[0]['end'] = 22_000
param_scheduler[0]['warmup'] = 660
