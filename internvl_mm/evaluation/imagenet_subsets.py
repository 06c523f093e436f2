"""Which of the 1,000 ImageNet classes the 200-class robustness sets cover."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Literal

from internvl_mm.utils.errors import ConfigError

ClassSubset = Literal['imagenet_a', 'imagenet_r']  # 200 classes each, 86 of them in both


@cache
def class_subset(name: ClassSubset) -> tuple[int, ...]:
    """ImageNet-1K indices of a subset, ascending; entry j is the class of its j-th folder (folders sort alike).

    Args:
        name: ``'imagenet_a'`` (Hendrycks et al. 2019) or ``'imagenet_r'`` (Hendrycks et al. 2020), 200 classes each.
    """
    table = json.loads((files('internvl_mm.evaluation') / 'data' / 'imagenet_subsets.json').read_text())
    if name not in table:
        raise ConfigError(f'class_subset={name!r} is unknown: choose one of {sorted(table)}')
    return tuple(table[name])
