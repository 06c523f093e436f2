"""Rendered SST-2: 1,821 test pictures of sentences, negative or positive, 1 template.

Command: python tools/test.py configs/zero_shot/renderedsst2.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: top-1 67.93, mean per class 67.93 (published, InternVL-C, as with published=True).
"""

from mmengine.config import read_base

from internvl_mm.data.datasets import TorchvisionDataset
from internvl_mm.evaluation.prompts import DatasetPrompts

with read_base():
    from .._base_.zero_shot import *
    from .._base_.zero_shot import _classify, _crop, _loader

_dataset = dict(
    type=TorchvisionDataset, name='renderedsst2', kind='RenderedSST2', root='data/renderedsst2',
    transform=_crop,
)  # fmt: skip
benchmarks = dict(renderedsst2=dict(
    dataloader=dict(_loader, dataset=_dataset),
    prompts=dict(type=DatasetPrompts, dataset='renderedsst2'),
    metrics=_classify,
))  # fmt: skip
