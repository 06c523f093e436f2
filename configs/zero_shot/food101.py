"""Food-101: 25,250 test pictures, 101 dishes, 1 template.

Command: python tools/test.py configs/zero_shot/food101.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: top-1 95.26, top-5 99.55, mean per class 95.28 (published, InternVL-C, as with published=True).
"""

from mmengine.config import read_base

from internvl_mm.data.datasets import TorchvisionDataset
from internvl_mm.evaluation.prompts import DatasetPrompts

with read_base():
    from .._base_.zero_shot import *
    from .._base_.zero_shot import _classify, _crop, _loader

_dataset = dict(
    type=TorchvisionDataset, name='food101', kind='Food101', root='data/food101',
    transform=_crop,
)  # fmt: skip
benchmarks = dict(food101=dict(
    dataloader=dict(_loader, dataset=_dataset),
    prompts=dict(type=DatasetPrompts, dataset='food101'),
    metrics=_classify,
))  # fmt: skip
