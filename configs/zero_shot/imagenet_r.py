"""ImageNet-R: 30,000 renditions of 200 classes, scored among these 200.

Command: python tools/test.py configs/zero_shot/imagenet_r.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: top-1 95.5, top-5 99.18, mean per class 94.6 (published, InternVL-C, as with published=True).
"""

from mmengine.config import read_base

from internvl_mm.data.datasets import ImageFolderDataset
from internvl_mm.evaluation.prompts import DatasetPrompts

with read_base():
    from .._base_.zero_shot import *
    from .._base_.zero_shot import _classify, _crop, _loader

_dataset = dict(
    type=ImageFolderDataset, name='imagenet_r', root='data/imagenet-r', num_classes=200,
    transform=_crop,
)  # fmt: skip
benchmarks = dict(imagenet_r=dict(
    dataloader=dict(_loader, dataset=_dataset),
    prompts=dict(type=DatasetPrompts, dataset='imagenet1k', class_subset='imagenet_r'),
    metrics=_classify,
))  # fmt: skip
