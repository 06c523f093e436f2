"""Sizes of parameters, wherever their values are."""

from __future__ import annotations

from torch import Tensor


def numel(parameter: Tensor) -> int:
    """Values of a whole parameter; ZeRO-3 leaves an empty tensor in its place and keeps its size aside."""
    return getattr(parameter, 'ds_numel', parameter.numel())
