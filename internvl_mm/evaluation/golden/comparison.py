"""How an output of ours is compared with a recorded one."""

from __future__ import annotations

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
    return largest if largest == largest else float('inf')
