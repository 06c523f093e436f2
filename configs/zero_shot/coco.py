"""COCO retrieval: Karpathy test split, 5,000 pictures, 25,010 cleaned captions.

Command: python tools/test.py configs/zero_shot/coco.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: C, image to text R@1/5/10 70.6/89.0/93.5, text to image 54.1/77.3/84.6;
    G (add --cfg-options model.image_mode=InternVL-G) 74.9/91.3/95.2 and 58.6/81.3/88.0 (published).
"""

from mmengine.config import read_base

from internvl_mm.data.datasets import CaptionListDataset

with read_base():
    from .._base_.zero_shot import *
    from .._base_.zero_shot import _cleaned, _loader, _retrieve, _squash

_dataset = dict(
    type=CaptionListDataset, name='coco', root='data/coco/val2014', file='data/coco/coco_test_karpathy.json',
    caption_transform=_cleaned, transform=_squash,
)  # fmt: skip
benchmarks = dict(coco=dict(dataloader=dict(_loader, dataset=_dataset), metrics=_retrieve))
