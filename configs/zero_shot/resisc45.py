"""RESISC45: 6,300 test pictures of the VTAB split, 45 classes, 4 templates.

Command: python tools/test.py configs/zero_shot/resisc45.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: top-1 74.23, top-5 96.64, mean per class 74.81 (published, InternVL-C, as with published=True).
"""

from mmengine.config import read_base

from internvl_mm.data.datasets import TarShardDataset
from internvl_mm.evaluation.prompts import DatasetPrompts

with read_base():
    from .._base_.zero_shot import *
    from .._base_.zero_shot import _classify, _crop, _loader

_dataset = dict(
    type=TarShardDataset, name='resisc45', shards='data/wds_vtab-resisc45/test/*.tar', num_classes=45,
    transform=_crop,
)  # fmt: skip
benchmarks = dict(resisc45=dict(
    dataloader=dict(_loader, dataset=_dataset),
    prompts=dict(type=DatasetPrompts, dataset='resisc45'),
    metrics=_classify,
))  # fmt: skip
