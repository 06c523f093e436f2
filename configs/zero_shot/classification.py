"""The 21 further classification benchmarks, one table; name some with --benchmarks.

Command: python tools/test.py configs/zero_shot/classification.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: the numbers published for InternVL-C, in the header of each file.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.zero_shot import *
    from .aircraft import benchmarks as _aircraft
    from .birdsnap import benchmarks as _birdsnap
    from .caltech101 import benchmarks as _caltech101
    from .cars import benchmarks as _cars
    from .cifar10 import benchmarks as _cifar10
    from .cifar100 import benchmarks as _cifar100
    from .country211 import benchmarks as _country211
    from .dtd import benchmarks as _dtd
    from .eurosat import benchmarks as _eurosat
    from .fer2013 import benchmarks as _fer2013
    from .flowers import benchmarks as _flowers
    from .food101 import benchmarks as _food101
    from .gtsrb import benchmarks as _gtsrb
    from .mnist import benchmarks as _mnist
    from .pcam import benchmarks as _pcam
    from .pets import benchmarks as _pets
    from .renderedsst2 import benchmarks as _renderedsst2
    from .resisc45 import benchmarks as _resisc45
    from .stl10 import benchmarks as _stl10
    from .sun397 import benchmarks as _sun397
    from .voc2007 import benchmarks as _voc2007

benchmarks = dict(
    **_cifar10, **_cifar100, **_mnist, **_caltech101, **_sun397, **_aircraft, **_country211, **_cars,
    **_birdsnap, **_dtd, **_eurosat, **_fer2013, **_flowers, **_food101, **_gtsrb, **_pcam, **_pets,
    **_renderedsst2, **_resisc45, **_stl10, **_voc2007,
)  # fmt: skip
