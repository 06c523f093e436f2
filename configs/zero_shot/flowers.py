"""Flowers-102: 6,149 test pictures, 102 flowers, 1 template.

Command: python tools/test.py configs/zero_shot/flowers.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: top-1 86.06, top-5 95.37, mean per class 85.63 (published, InternVL-C, as with published=True).
"""

from mmengine.config import read_base

from internvl_mm.data.datasets import TorchvisionDataset
from internvl_mm.evaluation.prompts import DatasetPrompts

with read_base():
    from .._base_.zero_shot import *
    from .._base_.zero_shot import _classify, _crop, _loader

_dataset = dict(
    type=TorchvisionDataset, name='flowers', kind='Flowers102', root='data/flowers',
    transform=_crop,
)  # fmt: skip
benchmarks = dict(flowers=dict(
    dataloader=dict(_loader, dataset=_dataset),
    prompts=dict(type=DatasetPrompts, dataset='flowers'),
    metrics=_classify,
))  # fmt: skip
