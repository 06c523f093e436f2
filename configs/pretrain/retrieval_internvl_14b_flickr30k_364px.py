"""Retrieval fine-tuning of InternVL-14B on Flickr30k, all parameters, 364 pixels; evaluated as InternVL-G.

Command: torchrun --nnodes 4 --nproc_per_node 8 tools/train.py \
    configs/pretrain/retrieval_internvl_14b_flickr30k_364px.py --launcher pytorch
Evaluation as InternVL-C: add --cfg-options model.image_mode=InternVL-C
Hardware: 32 × 80 GB as published, 32 pairs per process (not run).
Expected: image to text R@1/5/10 97.9/100/100, text to image 89.6/98.6/99.2 (published);
    not run.
"""

from mmengine.config import read_base

from internvl_mm.engine.part_rates import PartRates

with read_base():
    from .._base_.benchmarks.flickr30k_retrieval_364 import *
    from .._base_.data.flickr30k_train_364 import *
    from .._base_.models.retrieval_internvl_14b import *
    from .._base_.runtime import *
    from .._base_.schedules.retrieval_adamw_10e import *
    from .._base_.strategies.zero1 import *

model['model'].update(
    image_size=364,
    # All but the language head, which retrieval never asks.
    trainable=(
        'vision', 'image_pool', 'llama', 'cross_attention', 'queries', 'query_pool', 'matching_head',
        'text_projection', 'temperature',
    ),
)  # fmt: skip
model['model']['vision'].update(drop_path_rate=0.3)
# Published: rates fall by 0.9 with every layer below the top, in both towers.
optim_wrapper['constructor'] = PartRates
optim_wrapper['paramwise_cfg'] = dict(decay_rate=dict(vision=0.9, qllama=0.9))
