"""EuroSAT: all 27,000 pictures, 10 kinds of land, 3 templates.

Command: python tools/test.py configs/zero_shot/eurosat.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: top-1 79.37, top-5 99.84, mean per class 80.14 (published, InternVL-C, as with published=True).
"""

from mmengine.config import read_base

from internvl_mm.data.datasets import TorchvisionDataset
from internvl_mm.evaluation.prompts import DatasetPrompts

with read_base():
    from .._base_.zero_shot import *
    from .._base_.zero_shot import _classify, _crop, _loader

_dataset = dict(
    type=TorchvisionDataset, name='eurosat', kind='EuroSAT', root='data/eurosat',
    transform=_crop,
)  # fmt: skip
benchmarks = dict(eurosat=dict(
    dataloader=dict(_loader, dataset=_dataset),
    prompts=dict(type=DatasetPrompts, dataset='eurosat'),
    metrics=_classify,
))  # fmt: skip
