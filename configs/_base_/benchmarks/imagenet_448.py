"""The six sets of the published tables at 448, one table; during training only ImageNet-1K is evaluated."""

from mmengine.config import read_base

with read_base():
    from ..data.imagenet_eval import _transform_448
    from .a import _a
    from .in1k import _in1k
    from .r import _r
    from .real import _real
    from .sketch import _sketch
    from .v2 import _v2

benchmarks = dict(in1k=_in1k, real=_real, v2=_v2, a=_a, r=_r, sketch=_sketch)
val_benchmarks = ['in1k']
benchmarks['in1k']['dataloader']['dataset']['transform'] = _transform_448
benchmarks['real']['dataloader']['dataset']['transform'] = _transform_448
benchmarks['v2']['dataloader']['dataset']['transform'] = _transform_448
benchmarks['a']['dataloader']['dataset']['transform'] = _transform_448
benchmarks['r']['dataloader']['dataset']['transform'] = _transform_448
benchmarks['sketch']['dataloader']['dataset']['transform'] = _transform_448
