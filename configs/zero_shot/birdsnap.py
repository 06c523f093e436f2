"""Birdsnap: its test pictures in a folder per species, 500 species, 1 template.

Command: python tools/test.py configs/zero_shot/birdsnap.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: top-1 72.03, top-5 96.37, mean per class 70.28 (published, InternVL-C, as with published=True).
"""

from mmengine.config import read_base

from internvl_mm.data.datasets import ImageFolderDataset
from internvl_mm.evaluation.prompts import DatasetPrompts

with read_base():
    from .._base_.zero_shot import *
    from .._base_.zero_shot import _classify, _crop, _loader

_dataset = dict(type=ImageFolderDataset, name='birdsnap', root='data/birdsnap/test', transform=_crop)
benchmarks = dict(birdsnap=dict(
    dataloader=dict(_loader, dataset=_dataset),
    prompts=dict(type=DatasetPrompts, dataset='birdsnap'),
    metrics=_classify,
))  # fmt: skip
