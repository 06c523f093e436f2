"""Stage 1.5 of InternVL2.5-8B: vision tower and projector, packed conversations.

Command: torchrun --nproc-per-node 8 tools/train.py configs/chat/stage1_5_internvl2_5_8b.py --launcher pytorch
Hardware: 512 GPUs of 80 GB, two packs of up to 16,384 tokens per GPU and step, 100,000 steps.
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
    chat=dict(_chat, pretrained='work_dirs/stage1_internvl2_5_8b/export'),
    tokenizer='work_dirs/stage1_internvl2_5_8b/export',
    reduction='square',
    all_gather=True,
)
train_dataloader['dataset']['dataset']['encoder'].update(
    tokenizer='work_dirs/stage1_internvl2_5_8b/export', template='internvl2_5'
)
model['vision']['train'] = 'all'
model['language']['train'] = 'none'
model['chat']['vision'] = dict(model['chat']['vision'], drop_path_rate=0.1)
optim_wrapper['optimizer'].update(lr=1e-5)
optim_wrapper['accumulative_counts'] = 2
# Two packs make a step.
train_cfg['max_iters'] = param_scheduler[0]['end'] = 200_000
param_scheduler[0]['warmup'] = 200
