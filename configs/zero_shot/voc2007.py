"""PASCAL VOC 2007: 14,976 objects cut out of the test pictures, 20 classes, 1 template.

Command: python tools/test.py configs/zero_shot/voc2007.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: top-1 79.97, top-5 97.95, mean per class 90.49 (published, InternVL-C, as with published=True).
"""

from mmengine.config import read_base

from internvl_mm.data.datasets import VOCObjectsDataset
from internvl_mm.evaluation.prompts import DatasetPrompts

with read_base():
    from .._base_.zero_shot import *
    from .._base_.zero_shot import _classify, _crop, _loader

_dataset = dict(type=VOCObjectsDataset, name='voc2007', root='data/VOCdevkit/VOC2007', transform=_crop)
benchmarks = dict(voc2007=dict(
    dataloader=dict(_loader, dataset=_dataset),
    prompts=dict(type=DatasetPrompts, dataset='voc2007'),
    metrics=_classify,
))  # fmt: skip
