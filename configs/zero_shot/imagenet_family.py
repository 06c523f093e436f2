"""ImageNet-1K and the five sets that test robustness, one table.

Command: python tools/test.py configs/zero_shot/imagenet_family.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: mean top-1 82.4, 0.8 below ImageNet-1K (published, InternVL-C, as with published=True).
"""

from mmengine.config import read_base

with read_base():
    from .._base_.zero_shot import *
    from .imagenet1k import benchmarks as _imagenet1k
    from .imagenet_a import benchmarks as _imagenet_a
    from .imagenet_r import benchmarks as _imagenet_r
    from .imagenet_sketch import benchmarks as _imagenet_sketch
    from .imagenet_v2 import benchmarks as _imagenet_v2
    from .objectnet import benchmarks as _objectnet

benchmarks = dict(
    **_imagenet1k, **_imagenet_a, **_imagenet_r, **_imagenet_v2, **_imagenet_sketch, **_objectnet,
)  # fmt: skip
