"""CIFAR-10: 10,000 test pictures, 10 classes, 18 templates.

Command: python tools/test.py configs/zero_shot/cifar10.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: top-1 99.35, top-5 99.96, mean per class 99.35 (published, InternVL-C, as with published=True).
"""

from mmengine.config import read_base

from internvl_mm.data.datasets import TorchvisionDataset
from internvl_mm.evaluation.prompts import DatasetPrompts

with read_base():
    from .._base_.zero_shot import *
    from .._base_.zero_shot import _classify, _crop, _loader

_dataset = dict(
    type=TorchvisionDataset, name='cifar10', kind='CIFAR10', root='data/cifar10',
    transform=_crop,
)  # fmt: skip
benchmarks = dict(cifar10=dict(
    dataloader=dict(_loader, dataset=_dataset),
    prompts=dict(type=DatasetPrompts, dataset='cifar10'),
    metrics=_classify,
))  # fmt: skip
