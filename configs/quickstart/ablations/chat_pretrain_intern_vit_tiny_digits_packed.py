"""Packing on: written conversations of DigitScenes, packed into rows of 2,048 tokens.

Command: OMP_NUM_THREADS=1 python tools/train.py configs/quickstart/ablations/chat_pretrain_intern_vit_tiny_digits_packed.py \
    --cfg-options model.chat.vision.pretrained=work_dirs/finetune_intern_vit_tiny_digits
Hardware: 1 CPU core, fp32; minutes.
Expected: 2,700 conversations in 147 s (measured; 244 s padded), exact match on one-word questions 0:
    docs/results/ablations.md.
"""

from mmengine.config import read_base

from internvl_mm.data.collate_chat import collate_packed
from internvl_mm.data.datasets import ChatMixture, PackedChatDataset

with read_base():
    from ..chat_pretrain_intern_vit_tiny_digits import *

_talks = dict(
    type=ChatMixture,
    meta='data/digit_scenes/chat/meta_train.json',
    encoder=train_dataloader['dataset']['encoder'],
)
train_dataloader.update(batch_size=1, collate_fn=dict(type=collate_packed))
train_dataloader['dataset'] = dict(type=PackedChatDataset, max_tokens=2048, max_tiles=64, dataset=_talks)
