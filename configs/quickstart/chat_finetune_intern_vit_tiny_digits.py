"""All parts of the tiny chat model learn to answer questions about digits.

Command: OMP_NUM_THREADS=1 python tools/train.py configs/quickstart/chat_finetune_intern_vit_tiny_digits.py
    --cfg-options load_from=work_dirs/chat_pretrain_intern_vit_tiny_digits
Hardware: 1 CPU core, fp32.
Expected: exact match 42.5 after 288 steps from random language weights (measured, see docs/log.md); the two
    stages together were not run.
"""

from mmengine.config import read_base

from internvl_mm.models.tuning import PartTuning

with read_base():
    from .chat_pretrain_intern_vit_tiny_digits import *

model['vision'] = dict(type=PartTuning)
param_scheduler[0].update(end=10)
train_cfg.update(max_epochs=10, val_interval=10)
