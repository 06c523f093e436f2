"""How an output of ours is compared with a recorded one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from torch import Tensor

# What a checker yields: name of an output, what we computed, what was recorded. Tensors are compared within the
# tolerance; everything else (strings, token ids, grids) has to be equal.
Comparison: TypeAlias = tuple[str, Any, Any]


def difference(ours: Any, recorded: Any) -> float:
    """Largest absolute difference; infinite for another shape, a NaN, or values that are not equal."""
    if not isinstance(recorded, Tensor):
        return 0.0 if ours == recorded else float('inf')
    if ours.shape != recorded.shape:
        return float('inf')
    if not recorded.is_floating_point():
        return 0.0 if bool((ours == recorded).all()) else float('inf')
    largest = float((ours - recorded).abs().max())
    # Only NaN differs from itself, and max() of a tensor hands it on.
    return largest if largest == largest else float('inf')


def feature_maps(ours: Sequence[Tensor], golden: Mapping[str, Tensor]) -> Iterator[Comparison]:
    """Every recorded ``feature_<i>`` beside our map i; too few or too many of ours fail, too."""
    recorded = [name for name in golden if name.startswith('feature_')]
    yield 'number of maps', len(ours), len(recorded)
    yield from ((f'feature_{index}', map_, golden[f'feature_{index}']) for index, map_ in enumerate(ours))
