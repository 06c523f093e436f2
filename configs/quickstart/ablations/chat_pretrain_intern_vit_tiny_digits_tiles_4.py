"""At most 4 tiles of 28 pixels, one token each; a square scene gets 2×2, then a thumbnail.

Command: OMP_NUM_THREADS=1 python tools/train.py configs/quickstart/ablations/chat_pretrain_intern_vit_tiny_digits_tiles_4.py \
    --cfg-options model.chat.vision.pretrained=work_dirs/finetune_intern_vit_tiny_digits
Hardware: 1 CPU core, fp32; minutes.
Expected: exact match 49 after 3 epochs (measured, seed 0):
    docs/results/ablations.md.
"""

from mmengine.config import read_base

from internvl_mm.preprocess.tiling import DynamicTiling

with read_base():
    from ..chat_pretrain_intern_vit_tiny_digits import *

_tiles = dict(tokens_per_tile=1, tiling=dict(type=DynamicTiling, max_num=4, size=28))
train_dataloader['dataset']['encoder'].update(_tiles)
benchmarks['digit_chat']['dataloader']['dataset']['encoder'].update(_tiles)
model['chat'].update(image_size=28)
