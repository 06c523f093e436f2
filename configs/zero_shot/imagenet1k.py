"""ImageNet-1K in English: 50,000 validation pictures, 1,000 class names, 80 templates.

Command: python tools/test.py configs/zero_shot/imagenet1k.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: top-1 83.18, top-5 97.32, mean per class 83.2 (published, InternVL-C, as with published=True).
"""

from mmengine.config import read_base

from internvl_mm.evaluation.prompts import DatasetPrompts

with read_base():
    from .._base_.data.imagenet1k_pictures import _imagenet1k
    from .._base_.zero_shot import *
    from .._base_.zero_shot import _classify, _loader

benchmarks = dict(imagenet1k=dict(
    dataloader=dict(_loader, dataset=_imagenet1k),
    prompts=dict(type=DatasetPrompts, dataset='imagenet1k'),
    metrics=_classify,
))  # fmt: skip
