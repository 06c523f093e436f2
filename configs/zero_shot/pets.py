"""Oxford-IIIT Pets: 3,669 test pictures, 37 breeds, 1 template.

Command: python tools/test.py configs/zero_shot/pets.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: top-1 96.05, top-5 99.92, mean per class 96.03 (published, InternVL-C, as with published=True).
"""

from mmengine.config import read_base

from internvl_mm.data.datasets import TorchvisionDataset
from internvl_mm.evaluation.prompts import DatasetPrompts

with read_base():
    from .._base_.zero_shot import *
    from .._base_.zero_shot import _classify, _crop, _loader

_dataset = dict(
    type=TorchvisionDataset, name='pets', kind='OxfordIIITPet', root='data/pets',
    transform=_crop,
)  # fmt: skip
benchmarks = dict(pets=dict(
    dataloader=dict(_loader, dataset=_dataset),
    prompts=dict(type=DatasetPrompts, dataset='pets'),
    metrics=_classify,
))  # fmt: skip
