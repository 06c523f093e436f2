"""Retrieval fine-tuning of InternVL-14B on Flickr30k, adapters of rank 16 in both towers, 224 pixels.

Command: torchrun --nproc_per_node 4 tools/train.py \
    configs/pretrain/retrieval_internvl_14b_flickr30k_lora_224px.py --launcher pytorch
Hardware: 4 × 80 GB as published, 32 pairs per process (not run).
Expected: no number was published; not run.
"""

from mmengine.config import read_base

with read_base():
    from .retrieval_internvl_14b_flickr30k_head_224px import *

model['model'].update(vision_lora=16, qllama_lora=16)
