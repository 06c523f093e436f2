"""ImageNet-1K in five languages; the pictures are embedded once.

Command: python tools/test.py configs/zero_shot/imagenet_multilingual.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: mean top-1 64.0 (published, InternVL-C, as with published=True).
"""

from mmengine.config import read_base

with read_base():
    from .._base_.zero_shot import *
    from .imagenet1k import benchmarks as _imagenet1k
    from .imagenet1k_ar import benchmarks as _imagenet1k_ar
    from .imagenet1k_it import benchmarks as _imagenet1k_it
    from .imagenet1k_jp import benchmarks as _imagenet1k_jp
    from .imagenet1k_zh import benchmarks as _imagenet1k_zh

benchmarks = dict(
    **_imagenet1k, **_imagenet1k_zh, **_imagenet1k_jp, **_imagenet1k_ar, **_imagenet1k_it,
)  # fmt: skip
