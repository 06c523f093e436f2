"""A trained chat model goes on with its projector alone: the language model is frozen.

Command: OMP_NUM_THREADS=1 python tools/train.py configs/quickstart/ablations/chat_pretrain_intern_vit_tiny_digits_frozen.py \
    --cfg-options model.chat.pretrained=work_dirs/chat_digits
Start: a run of chat_pretrain_intern_vit_tiny_digits.py, written by tools/convert.py RUN work_dirs/chat_digits --to chat.
Hardware: 1 CPU core, fp32; minutes.
Expected: not run; the question it belongs to is in docs/results/ablations.md.
"""

from mmengine.config import read_base

from internvl_mm.models.tuning import PartTuning

with read_base():
    from ..chat_pretrain_intern_vit_tiny_digits import *

model['language'] = dict(type=PartTuning, train='none')
