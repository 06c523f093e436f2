"""A trained chat model goes on with its projector alone: the language model is frozen.

Command: OMP_NUM_THREADS=1 python tools/train.py configs/quickstart/ablations/chat_pretrain_intern_vit_tiny_digits_frozen.py \
    --cfg-options model.chat.pretrained=work_dirs/chat_digits
Start: a run of chat_pretrain_intern_vit_tiny_digits.py, written by tools/convert.py RUN work_dirs/chat_digits --to chat.
Hardware: 1 CPU core, fp32; minutes.
Expected: exact match 26.33 on scenes of 2 and 3 digits after 2 epochs (measured, seed 0; its parent 32.33):
    docs/results/ablations.md.
"""

from mmengine.config import read_base

from internvl_mm.models.tuning import PartTuning

with read_base():
    from ..chat_pretrain_intern_vit_tiny_digits import *

model['language'] = dict(type=PartTuning, train='none')
