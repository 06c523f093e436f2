"""Caltech-101: all 8,677 pictures of 101 classes; 9,144 with the background class when published=True.

Command: python tools/test.py configs/zero_shot/caltech101.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: top-1 89.49, top-5 98.48, mean per class 95.49 (published, InternVL-C, as with published=True).
"""

from mmengine.config import read_base

from internvl_mm.data.datasets import Caltech101Dataset
from internvl_mm.evaluation.prompts import DatasetPrompts

with read_base():
    from .._base_.zero_shot import *
    from .._base_.zero_shot import _classify, _crop, _loader

_dataset = dict(
    type=Caltech101Dataset, name='caltech101', root='data/caltech101/101_ObjectCategories',
    transform=_crop,
)  # fmt: skip
benchmarks = dict(caltech101=dict(
    dataloader=dict(_loader, dataset=_dataset),
    prompts=dict(type=DatasetPrompts, dataset='caltech101'),
    metrics=_classify,
))  # fmt: skip
