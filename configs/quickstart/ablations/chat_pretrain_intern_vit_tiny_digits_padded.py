"""Packing off: written conversations of DigitScenes, padded to the longest of 16.

Command: OMP_NUM_THREADS=1 python tools/train.py configs/quickstart/ablations/chat_pretrain_intern_vit_tiny_digits_padded.py \
    --cfg-options model.chat.vision.pretrained=work_dirs/finetune_intern_vit_tiny_digits
Hardware: 1 CPU core, fp32; minutes.
Expected: 2,700 conversations in 244 s (measured; 147 s packed), exact match on one-word questions 0:
    docs/results/ablations.md.
"""

from mmengine.config import read_base

from internvl_mm.data.datasets import ChatMixture

with read_base():
    from ..chat_pretrain_intern_vit_tiny_digits import *

_talks = dict(
    type=ChatMixture,
    meta='data/digit_scenes/chat/meta_train.json',
    encoder=train_dataloader['dataset']['encoder'],
)
train_dataloader.update(batch_size=16)
train_dataloader['dataset'] = _talks
