"""SUN397: all 108,754 pictures, 397 scenes, 2 templates.

Command: python tools/test.py configs/zero_shot/sun397.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: top-1 76, top-5 96.23, mean per class 76.42 (published, InternVL-C, as with published=True).
"""

from mmengine.config import read_base

from internvl_mm.data.datasets import TorchvisionDataset
from internvl_mm.evaluation.prompts import DatasetPrompts

with read_base():
    from .._base_.zero_shot import *
    from .._base_.zero_shot import _classify, _crop, _loader

_dataset = dict(type=TorchvisionDataset, name='sun397', kind='SUN397', root='data/sun397', transform=_crop)
benchmarks = dict(sun397=dict(
    dataloader=dict(_loader, dataset=_dataset),
    prompts=dict(type=DatasetPrompts, dataset='sun397'),
    metrics=_classify,
))  # fmt: skip
