"""Captions of NoCaps: validation, 4,500 pictures with 10 references each.

Command: python tools/test.py configs/zero_shot/caption_nocaps.py
Data: images below data/nocaps/images, nocaps_val_4500_captions.json beside the folder (nocaps.org).
Hardware: one GPU of 80 GB in half precision (not run).
Expected: CIDEr-D 113.7, BLEU-4 44.3, ROUGE-L 60.7, METEOR 30.1, 10.5 words
    (published, InternVL-G, words of the Java tokeniser).
"""

from mmengine.config import read_base

with read_base():
    from .._base_.captioning import *
    from .._base_.captioning import _dataset, _loader, _scores

_dataset.update(
    name='caption_nocaps', root='data/nocaps/images', file='data/nocaps/nocaps_val_4500_captions.json'
)
benchmarks = dict(caption_nocaps=dict(dataloader=dict(_loader, dataset=_dataset), metrics=_scores))
