"""Flickr30k-CN retrieval: 1,000 test pictures, 5,000 Chinese captions.

Command: python tools/test.py configs/zero_shot/flickr30k_cn.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: C, image to text R@1/5/10 90.3/98.8/99.7, text to image 75.1/92.9/96.4;
    G (add --cfg-options model.image_mode=InternVL-G) 92.9/99.4/99.8 and 77.7/94.8/97.3 (published).
"""

from mmengine.config import read_base

from internvl_mm.data.datasets import CaptionListDataset

with read_base():
    from .._base_.zero_shot import *
    from .._base_.zero_shot import _cleaned, _loader, _retrieve, _squash

_dataset = dict(
    type=CaptionListDataset, name='flickr30k_cn',
    root='data/flickr30k/Images', file='data/flickr30k/flickr30k_cn_test.txt',
    caption_transform=_cleaned, transform=_squash,
)  # fmt: skip
benchmarks = dict(flickr30k_cn=dict(dataloader=dict(_loader, dataset=_dataset), metrics=_retrieve))
