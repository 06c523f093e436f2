"""One process, one device."""

from __future__ import annotations

from mmengine._strategy import SingleDeviceStrategy as MMSingleDeviceStrategy

from internvl_mm.registry import STRATEGIES

from .base import StrategyMixin


@STRATEGIES.register_module()
class SingleDeviceStrategy(StrategyMixin, MMSingleDeviceStrategy):
    """Train in one process on one device.

    Args:
        precision: ``'auto'``, ``'fp32'``, ``'bf16'`` or ``'fp16'``.
    """

    collective = False
