"""Retrieval fine-tuning of InternVL-14B on Flickr30k, text projection alone, 224 pixels.

Command: torchrun --nproc_per_node 4 tools/train.py \
    configs/pretrain/retrieval_internvl_14b_flickr30k_head_224px.py --launcher pytorch
Hardware: 4 × 80 GB as published, 32 pairs per process (not run).
Expected: no number was published; the published recipe also unfroze the language head, which gets no gradient. Not run.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.benchmarks.flickr30k_retrieval_364 import *
    from .._base_.data.flickr30k_train_364 import *
    from .._base_.models.retrieval_internvl_14b import *
    from .._base_.runtime import *
    from .._base_.schedules.retrieval_adamw_10e import *
    from .._base_.strategies.zero3 import *

model['model'].update(trainable=('text_projection',))
train_dataloader['dataset']['transform'][0].update(size=224)
benchmarks['flickr30k']['dataloader']['dataset']['transform'][0].update(size=224)
