"""ADE20K validation for the original ViT-Adapters: short side 512, long side at most 2048, both rounded up to 32."""

from mmcv.transforms import Resize
from mmengine.config import read_base
from mmseg.datasets import PackSegInputs
from mmseg.datasets.transforms import ResizeToMultiple

from internvl_mm.data.loading import LoadImage, LoadSegMap

with read_base():
    from .ade20k import *

benchmarks['ade20k']['dataloader']['dataset']['dataset']['pipeline'] = [
    dict(type=LoadImage),
    dict(type=Resize, scale=(2048, 512), keep_ratio=True),
    dict(type=ResizeToMultiple, size_divisor=32),
    dict(type=LoadSegMap),
    dict(type=PackSegInputs),
]
