"""ImageNet-Sketch: 50,889 drawings of 1,000 classes.

Command: python tools/test.py configs/zero_shot/imagenet_sketch.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: top-1 73.86, top-5 92, mean per class 73.86 (published, InternVL-C, as with published=True).
"""

from mmengine.config import read_base

from internvl_mm.data.datasets import ImageFolderDataset
from internvl_mm.evaluation.prompts import DatasetPrompts

with read_base():
    from .._base_.zero_shot import *
    from .._base_.zero_shot import _classify, _crop, _loader

_dataset = dict(
    type=ImageFolderDataset, name='imagenet_sketch', root='data/imagenet-sketch', num_classes=1000,
    transform=_crop,
)  # fmt: skip
benchmarks = dict(imagenet_sketch=dict(
    dataloader=dict(_loader, dataset=_dataset),
    prompts=dict(type=DatasetPrompts, dataset='imagenet1k'),
    metrics=_classify,
))  # fmt: skip
