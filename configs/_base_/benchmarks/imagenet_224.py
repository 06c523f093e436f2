"""The six sets of the published tables at 224, one table; during training only ImageNet-1K is evaluated."""

from mmengine.config import read_base

with read_base():
    from .in1k import _in1k
    from .real import _real
    from .v2 import _v2
    from .a import _a
    from .r import _r
    from .sketch import _sketch

benchmarks = dict(in1k=_in1k, real=_real, v2=_v2, a=_a, r=_r, sketch=_sketch)
val_benchmarks = ['in1k']
