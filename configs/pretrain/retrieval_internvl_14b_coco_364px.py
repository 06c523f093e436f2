"""Retrieval fine-tuning of InternVL-14B on COCO captions, all parameters, 364 pixels, 5 epochs.

Command: torchrun --nnodes 4 --nproc_per_node 8 tools/train.py \
    configs/pretrain/retrieval_internvl_14b_coco_364px.py --launcher pytorch
Data: images in data/coco/train2014 and val2014, data/coco/annotations/coco_karpathy_train.json (published with BLIP)
    and, as for zero-shot retrieval, data/coco/coco_test_karpathy.json.
Hardware: 32 × 80 GB as published, 32 pairs per process (not run).
Expected: no number was published for this model; the recipe is published and was not run.
"""

from mmengine.config import read_base

with read_base():
    from .retrieval_internvl_14b_flickr30k_364px import *

train_dataloader['dataset'].update(
    name='coco_train', root='data/coco', file='data/coco/annotations/coco_karpathy_train.json'
)
benchmarks['flickr30k']['dataloader']['dataset'].update(
    name='coco', root='data/coco/val2014', file='data/coco/coco_test_karpathy.json'
)
benchmarks = dict(coco=benchmarks['flickr30k'])
param_scheduler[0].update(end=5)
train_cfg.update(max_epochs=5)
