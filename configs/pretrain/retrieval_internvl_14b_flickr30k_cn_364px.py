"""Retrieval fine-tuning of InternVL-14B on Flickr30k-CN, all parameters, 364 pixels; evaluated as InternVL-G.

Command: torchrun --nnodes 4 --nproc_per_node 8 tools/train.py \
    configs/pretrain/retrieval_internvl_14b_flickr30k_cn_364px.py --launcher pytorch
Hardware: 32 × 80 GB as published, 32 pairs per process (not run).
Expected: image to text R@1/5/10 96.9/99.9/100, text to image 85.9/97.1/98.7 (published);
    not run.
"""

from mmengine.config import read_base

with read_base():
    from .retrieval_internvl_14b_flickr30k_364px import *

train_dataloader['dataset'].update(name='flickr30k_cn_train', file='data/flickr30k/flickr30k_cn_train.txt')
benchmarks['flickr30k']['dataloader']['dataset'].update(
    name='flickr30k_cn', file='data/flickr30k/flickr30k_cn_test.txt'
)
benchmarks = dict(flickr30k_cn=benchmarks['flickr30k'])
