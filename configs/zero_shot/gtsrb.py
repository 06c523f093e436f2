"""GTSRB: 12,630 test pictures, 43 traffic signs, 3 templates.

Command: python tools/test.py configs/zero_shot/gtsrb.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: top-1 65.49, top-5 90.89, mean per class 57.75 (published, InternVL-C, as with published=True).
"""

from mmengine.config import read_base

from internvl_mm.data.datasets import TorchvisionDataset
from internvl_mm.evaluation.prompts import DatasetPrompts

with read_base():
    from .._base_.zero_shot import *
    from .._base_.zero_shot import _classify, _crop, _loader

_dataset = dict(type=TorchvisionDataset, name='gtsrb', kind='GTSRB', root='data/gtsrb', transform=_crop)
benchmarks = dict(gtsrb=dict(
    dataloader=dict(_loader, dataset=_dataset),
    prompts=dict(type=DatasetPrompts, dataset='gtsrb'),
    metrics=_classify,
))  # fmt: skip
