"""ImageNetV2, matched frequency: 10,000 new pictures of 1,000 classes.

Command: python tools/test.py configs/zero_shot/imagenet_v2.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: top-1 77.26, top-5 94.68, mean per class 77.38 (published, InternVL-C, as with published=True).
"""

from mmengine.config import read_base

from internvl_mm.data.datasets import ImageFolderDataset
from internvl_mm.evaluation.prompts import DatasetPrompts

with read_base():
    from .._base_.zero_shot import *
    from .._base_.zero_shot import _classify, _crop, _loader

_dataset = dict(
    type=ImageFolderDataset, name='imagenet_v2', labels='integer', num_classes=1000,
    root='data/imagenetv2/imagenetv2-matched-frequency-format-val', transform=_crop,
)  # fmt: skip
benchmarks = dict(imagenet_v2=dict(
    dataloader=dict(_loader, dataset=_dataset),
    prompts=dict(type=DatasetPrompts, dataset='imagenet1k'),
    metrics=_classify,
))  # fmt: skip
