"""Captions of Flickr30k: Karpathy test split, 1,000 pictures with 5 references each.

Command: python tools/test.py configs/zero_shot/caption_flickr30k.py
Data: images below data/flickr30k, flickr30k_test_karpathy.json beside them (published with InternVL).
Hardware: one GPU of 80 GB in half precision (not run).
Expected: CIDEr-D 79.2, BLEU-4 27.0, ROUGE-L 53.1, METEOR 25.3, 10.7 words
    (published, InternVL-G, words of the Java tokeniser).
"""

from mmengine.config import read_base

with read_base():
    from .._base_.captioning import *
    from .._base_.captioning import _dataset, _loader, _scores

_dataset.update(
    name='caption_flickr30k', root='data/flickr30k', file='data/flickr30k/flickr30k_test_karpathy.json'
)
benchmarks = dict(caption_flickr30k=dict(dataloader=dict(_loader, dataset=_dataset), metrics=_scores))
