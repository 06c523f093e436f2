"""ObjectNet: 18,574 pictures of the 113 classes ImageNet-1K has too, red border removed.

Command: python tools/test.py configs/zero_shot/objectnet.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: top-1 80.59, top-5 93.88, mean per class 79.7 (published, InternVL-C, as with published=True).
"""

from mmengine.config import read_base

from internvl_mm.data.datasets import ObjectNetDataset
from internvl_mm.evaluation.prompts import DatasetPrompts

with read_base():
    from .._base_.zero_shot import *
    from .._base_.zero_shot import _classify, _crop, _loader

_dataset = dict(type=ObjectNetDataset, name='objectnet', root='data/objectnet-1.0', transform=_crop)
benchmarks = dict(objectnet=dict(
    dataloader=dict(_loader, dataset=_dataset),
    prompts=dict(type=DatasetPrompts, dataset='objectnet'),
    metrics=_classify,
))  # fmt: skip
