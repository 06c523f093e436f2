"""ImageNet-1K in Italian: 50,000 validation pictures, 1,000 class names, 49 templates.

Command: python tools/test.py configs/zero_shot/imagenet1k_it.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: top-1 65.69, top-5 85.25 (published, InternVL-C, as with published=True).
"""

from mmengine.config import read_base

from internvl_mm.evaluation.prompts import DatasetPrompts

with read_base():
    from .._base_.data.imagenet1k_pictures import _imagenet1k
    from .._base_.zero_shot import *
    from .._base_.zero_shot import _classify, _loader

benchmarks = dict(imagenet1k_it=dict(
    dataloader=dict(_loader, dataset=_imagenet1k),
    prompts=dict(type=DatasetPrompts, dataset='imagenet1k', language='it'),
    metrics=_classify,
))  # fmt: skip
