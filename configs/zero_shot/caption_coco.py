"""Captions of COCO: Karpathy test split, 5,000 pictures with 5 references each.

Command: python tools/test.py configs/zero_shot/caption_coco.py
Data: images below data/coco/val2014, coco_karpathy_test.json in data/coco/annotations (published with BLIP).
Hardware: one GPU of 80 GB in half precision (not run).
Expected: CIDEr-D 128.2, BLEU-4 37.1, ROUGE-L 59.0, METEOR 30.1, 10.6 words
    (published, InternVL-G, words of the Java tokeniser).
"""

from mmengine.config import read_base

with read_base():
    from .._base_.captioning import *
    from .._base_.captioning import _dataset, _loader, _scores

_dataset.update(name='caption_coco', root='data/coco', file='data/coco/annotations/coco_karpathy_test.json')
benchmarks = dict(caption_coco=dict(dataloader=dict(_loader, dataset=_dataset), metrics=_scores))
