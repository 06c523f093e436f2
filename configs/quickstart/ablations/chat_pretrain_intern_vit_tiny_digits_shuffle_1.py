"""Pixel-shuffle ratio 1.0: 64 tokens per tile of 8×8 patches (no pixel shuffle) instead of 16.

Command: OMP_NUM_THREADS=1 python tools/train.py configs/quickstart/ablations/chat_pretrain_intern_vit_tiny_digits_shuffle_1.py \
    --cfg-options model.chat.vision.pretrained=work_dirs/finetune_intern_vit_tiny_digits
Hardware: 1 CPU core, fp32; minutes.
Expected: exact match 46.33 after 3 epochs (measured, seed 0; its parent 45.83: not told apart):
    docs/results/ablations.md.
"""

from mmengine.config import read_base

with read_base():
    from ..chat_pretrain_intern_vit_tiny_digits import *

model['chat']['connector'].update(downsample_ratio=1.0)
train_dataloader['dataset']['encoder'].update(tokens_per_tile=64)
benchmarks['digit_chat']['dataloader']['dataset']['encoder'].update(tokens_per_tile=64)
