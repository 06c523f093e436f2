"""MNIST: 10,000 test pictures, the digits 0 to 9, 1 template.

Command: python tools/test.py configs/zero_shot/mnist.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: top-1 80.6, top-5 97.43, mean per class 80.29 (published, InternVL-C, as with published=True).
"""

from mmengine.config import read_base

from internvl_mm.data.datasets import TorchvisionDataset
from internvl_mm.evaluation.prompts import DatasetPrompts

with read_base():
    from .._base_.zero_shot import *
    from .._base_.zero_shot import _classify, _crop, _loader

_dataset = dict(type=TorchvisionDataset, name='mnist', kind='MNIST', root='data/mnist', transform=_crop)
benchmarks = dict(mnist=dict(
    dataloader=dict(_loader, dataset=_dataset),
    prompts=dict(type=DatasetPrompts, dataset='mnist'),
    metrics=_classify,
))  # fmt: skip
