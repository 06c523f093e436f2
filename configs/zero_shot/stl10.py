"""STL-10: 8,000 test pictures, 10 classes, 2 templates.

Command: python tools/test.py configs/zero_shot/stl10.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: top-1 99.45, top-5 100, mean per class 99.45 (published, InternVL-C, as with published=True).
"""

from mmengine.config import read_base

from internvl_mm.data.datasets import TorchvisionDataset
from internvl_mm.evaluation.prompts import DatasetPrompts

with read_base():
    from .._base_.zero_shot import *
    from .._base_.zero_shot import _classify, _crop, _loader

_dataset = dict(type=TorchvisionDataset, name='stl10', kind='STL10', root='data/stl10', transform=_crop)
benchmarks = dict(stl10=dict(
    dataloader=dict(_loader, dataset=_dataset),
    prompts=dict(type=DatasetPrompts, dataset='stl10'),
    metrics=_classify,
))  # fmt: skip
