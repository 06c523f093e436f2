"""DTD: 1,880 test pictures of partition 1, 47 textures, 8 templates.

Command: python tools/test.py configs/zero_shot/dtd.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: top-1 70.74, top-5 93.67, mean per class 70.8 (published, InternVL-C, as with published=True).
"""

from mmengine.config import read_base

from internvl_mm.data.datasets import TorchvisionDataset
from internvl_mm.evaluation.prompts import DatasetPrompts

with read_base():
    from .._base_.zero_shot import *
    from .._base_.zero_shot import _classify, _crop, _loader

_dataset = dict(type=TorchvisionDataset, name='dtd', kind='DTD', root='data/dtd', transform=_crop)
benchmarks = dict(dtd=dict(
    dataloader=dict(_loader, dataset=_dataset),
    prompts=dict(type=DatasetPrompts, dataset='dtd'),
    metrics=_classify,
))  # fmt: skip
