"""Flickr30k retrieval: Karpathy test split, 1,000 pictures, 5,000 cleaned captions.

Command: python tools/test.py configs/zero_shot/flickr30k.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: C, image to text R@1/5/10 94.7/99.6/99.9, text to image 81.7/96.0/98.2;
    G (add --cfg-options model.image_mode=InternVL-G) 95.7/99.7/99.9 and 85.0/97.0/98.6 (published).
"""

from mmengine.config import read_base

from internvl_mm.data.datasets import CaptionListDataset

with read_base():
    from .._base_.zero_shot import *
    from .._base_.zero_shot import _cleaned, _loader, _retrieve, _squash

_dataset = dict(
    type=CaptionListDataset, name='flickr30k',
    root='data/flickr30k/Images', file='data/flickr30k/flickr30k_test_karpathy.txt',
    caption_transform=_cleaned, transform=_squash,
)  # fmt: skip
benchmarks = dict(flickr30k=dict(dataloader=dict(_loader, dataset=_dataset), metrics=_retrieve))
