"""COCO-Stuff 164k validation for ViT-Adapters: short side 512, not rounded, since windows are exactly 512."""

from mmcv.transforms import Resize
from mmengine.config import read_base
from mmseg.datasets import PackSegInputs

from internvl_mm.data.loading import LoadImage, LoadSegMap

with read_base():
    from .coco_stuff import *

benchmarks['coco_stuff']['dataloader']['dataset']['dataset']['pipeline'] = [
    dict(type=LoadImage),
    dict(type=Resize, scale=(1_000_000, 512), keep_ratio=True),
    dict(type=LoadSegMap),
    dict(type=PackSegInputs),
]
