"""FGVC-Aircraft: 3,333 test pictures, 100 variants, 2 templates.

Command: python tools/test.py configs/zero_shot/aircraft.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: top-1 52.72, top-5 94.27, mean per class 52.55 (published, InternVL-C, as with published=True).
"""

from mmengine.config import read_base

from internvl_mm.data.datasets import TorchvisionDataset
from internvl_mm.evaluation.prompts import DatasetPrompts

with read_base():
    from .._base_.zero_shot import *
    from .._base_.zero_shot import _classify, _crop, _loader

_dataset = dict(
    type=TorchvisionDataset, name='aircraft', kind='FGVCAircraft', root='data/aircraft',
    transform=_crop,
)  # fmt: skip
benchmarks = dict(aircraft=dict(
    dataloader=dict(_loader, dataset=_dataset),
    prompts=dict(type=DatasetPrompts, dataset='fgvc_aircraft'),
    metrics=_classify,
))  # fmt: skip
