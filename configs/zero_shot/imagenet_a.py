"""ImageNet-A: 7,500 natural adversarial pictures of 200 classes, scored among these 200.

Command: python tools/test.py configs/zero_shot/imagenet_a.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: top-1 83.77, top-5 95.59, mean per class 81.84 (published, InternVL-C, as with published=True).
"""

from mmengine.config import read_base

from internvl_mm.data.datasets import ImageFolderDataset
from internvl_mm.evaluation.prompts import DatasetPrompts

with read_base():
    from .._base_.zero_shot import *
    from .._base_.zero_shot import _classify, _crop, _loader

_dataset = dict(
    type=ImageFolderDataset, name='imagenet_a', root='data/imagenet-a', num_classes=200,
    transform=_crop,
)  # fmt: skip
benchmarks = dict(imagenet_a=dict(
    dataloader=dict(_loader, dataset=_dataset),
    prompts=dict(type=DatasetPrompts, dataset='imagenet1k', class_subset='imagenet_a'),
    metrics=_classify,
))  # fmt: skip
