"""chat_finetune_intern_vit_tiny_digits.py at full length: 60 epochs.

Command: OMP_NUM_THREADS=1 python tools/train.py configs/quickstart/chat_finetune_intern_vit_tiny_digits_full.py
    --cfg-options load_from=work_dirs/chat_pretrain_intern_vit_tiny_digits_full
Hardware: 2 CPU cores, fp32.
Expected: exact match 87.7 on 600 questions (how many 99.0, where 72.0, which 92.0; measured, seed 0, 26 minutes beside
    other stages). The goal of 90 is not met: see docs/log.md.
"""

from mmengine.config import read_base

with read_base():
    from .chat_finetune_intern_vit_tiny_digits import *

param_scheduler[0].update(end=60)
train_cfg.update(max_epochs=60, val_interval=20)
