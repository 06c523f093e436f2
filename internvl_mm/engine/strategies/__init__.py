"""Where and in which precision a run happens.

``DeepSpeedStrategy`` and ``FSDPStrategy`` take seconds to import and are so only when asked for.
"""

from __future__ import annotations

from typing import Any

from .ddp import DDPStrategy
from .single_device import SingleDeviceStrategy

__all__ = ['DDPStrategy', 'DeepSpeedStrategy', 'FSDPStrategy', 'SingleDeviceStrategy']


def __getattr__(name: str) -> Any:
    if name == 'DeepSpeedStrategy':
        from .deepspeed import DeepSpeedStrategy

        return DeepSpeedStrategy
    if name == 'FSDPStrategy':
        from .fsdp import FSDPStrategy

        return FSDPStrategy
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
