"""FER2013: 7,178 test pictures in a folder per emotion, 7 emotions, 6 templates.

Command: python tools/test.py configs/zero_shot/fer2013.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: top-1 56.2, top-5 97.33, mean per class 53.05 (published, InternVL-C, as with published=True).
"""

from mmengine.config import read_base

from internvl_mm.data.datasets import ImageFolderDataset
from internvl_mm.evaluation.prompts import DatasetPrompts

with read_base():
    from .._base_.zero_shot import *
    from .._base_.zero_shot import _classify, _crop, _loader

_dataset = dict(
    type=ImageFolderDataset, name='fer2013', root='data/fer2013/test', num_classes=7,
    transform=_crop,
)  # fmt: skip
benchmarks = dict(fer2013=dict(
    dataloader=dict(_loader, dataset=_dataset),
    prompts=dict(type=DatasetPrompts, dataset='fer2013'),
    metrics=_classify,
))  # fmt: skip
