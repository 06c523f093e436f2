"""Country211: 21,100 test pictures, 211 countries, 5 templates.

Command: python tools/test.py configs/zero_shot/country211.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: top-1 34.08, top-5 60.49, mean per class 34.07 (published, InternVL-C, as with published=True).
"""

from mmengine.config import read_base

from internvl_mm.data.datasets import TorchvisionDataset
from internvl_mm.evaluation.prompts import DatasetPrompts

with read_base():
    from .._base_.zero_shot import *
    from .._base_.zero_shot import _classify, _crop, _loader

_dataset = dict(
    type=TorchvisionDataset, name='country211', kind='Country211', root='data/country211',
    transform=_crop,
)  # fmt: skip
benchmarks = dict(country211=dict(
    dataloader=dict(_loader, dataset=_dataset),
    prompts=dict(type=DatasetPrompts, dataset='country211'),
    metrics=_classify,
))  # fmt: skip
