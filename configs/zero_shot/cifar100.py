"""CIFAR-100: 10,000 test pictures, 100 classes, 18 templates.

Command: python tools/test.py configs/zero_shot/cifar100.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: top-1 93.15, top-5 99.25, mean per class 93.14 (published, InternVL-C, as with published=True).
"""

from mmengine.config import read_base

from internvl_mm.data.datasets import TorchvisionDataset
from internvl_mm.evaluation.prompts import DatasetPrompts

with read_base():
    from .._base_.zero_shot import *
    from .._base_.zero_shot import _classify, _crop, _loader

_dataset = dict(
    type=TorchvisionDataset, name='cifar100', kind='CIFAR100', root='data/cifar100',
    transform=_crop,
)  # fmt: skip
benchmarks = dict(cifar100=dict(
    dataloader=dict(_loader, dataset=_dataset),
    prompts=dict(type=DatasetPrompts, dataset='cifar100'),
    metrics=_classify,
))  # fmt: skip
