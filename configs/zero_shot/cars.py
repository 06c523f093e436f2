"""Stanford Cars: 8,041 test pictures, 196 models, 8 templates.

Command: python tools/test.py configs/zero_shot/cars.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: top-1 94.17, top-5 99.95, mean per class 94.17 (published, InternVL-C, as with published=True).
"""

from mmengine.config import read_base

from internvl_mm.data.datasets import TorchvisionDataset
from internvl_mm.evaluation.prompts import DatasetPrompts

with read_base():
    from .._base_.zero_shot import *
    from .._base_.zero_shot import _classify, _crop, _loader

_dataset = dict(type=TorchvisionDataset, name='cars', kind='StanfordCars', root='data/cars', transform=_crop)
benchmarks = dict(cars=dict(
    dataloader=dict(_loader, dataset=_dataset),
    prompts=dict(type=DatasetPrompts, dataset='cars'),
    metrics=_classify,
))  # fmt: skip
