"""COCO-CN retrieval: 1,000 test pictures, 1,053 Chinese captions.

Command: python tools/test.py configs/zero_shot/coco_cn.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: C, image to text R@1/5/10 68.8/92.0/96.7, text to image 68.9/91.9/96.5;
    G (add --cfg-options model.image_mode=InternVL-G) 71.4/93.9/97.7 and 73.8/94.4/98.1 (published).
"""

from mmengine.config import read_base

from internvl_mm.data.datasets import CaptionListDataset

with read_base():
    from .._base_.zero_shot import *
    from .._base_.zero_shot import _cleaned, _loader, _retrieve, _squash

_dataset = dict(
    type=CaptionListDataset, name='coco_cn', root='data/coco', file='data/coco/coco-cn_test.json',
    caption_transform=_cleaned, transform=_squash,
)  # fmt: skip
benchmarks = dict(coco_cn=dict(dataloader=dict(_loader, dataset=_dataset), metrics=_retrieve))
