"""The resolved settings of a run: as text can hold them, and their hash."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmengine.utils import get_object_from_string

from internvl_mm.registry import STRATEGIES
from internvl_mm.utils.hashing import hash_settings

# What says where and how a run happens, not what is computed.
_NOT_HASHED = ('work_dir', 'resume', 'launcher', 'log_level', 'visualizer', 'experiment_name')


class RunConfig(Config):
    """A config that no longer changes: its text takes seconds to make, and every saved state asks for it."""

    @property
    def pretty_text(self) -> str:
        """The text, made once."""
        if '_pretty' not in self.__dict__:
            self.__dict__['_pretty'] = super().pretty_text  # setattr would make a setting of it
        return self.__dict__['_pretty']


def config_hash(settings: Mapping[str, Any]) -> str:
    """Hash of the resolved settings of a run, without where and how it happens."""
    # 48 bits: enough to tell runs apart, short enough for a table.
    return hash_settings({name: settings[name] for name in settings if name not in _NOT_HASHED})[:12]


def named(settings: Any) -> Any:
    """Settings as text can hold them: classes and functions by their dotted names, which build the same parts."""
    if isinstance(settings, dict):
        return {key: named(value) for key, value in settings.items()}
    if isinstance(settings, (list, tuple)):
        return type(settings)(named(value) for value in settings)
    if settings is None or isinstance(settings, (bool, int, float, str)):
        return settings
    if isinstance(settings, type) or inspect.isfunction(settings):
        return _importable_name(settings)
    return repr(settings)


def _importable_name(part: Any) -> str:
    name = f'{part.__module__}.{part.__qualname__}'
    # In mmcv and mmdet functions hide the modules they are from, such as mmcv.ops.roi_align: name the package's.
    hidden = get_object_from_string(name) is not part
    shorter = f'{part.__module__.rpartition(".")[0]}.{part.__qualname__}'
    return shorter if hidden and get_object_from_string(shorter) is part else name


def strategy_with_class(strategy: dict | None) -> dict | None:
    """A strategy's config with its class in place of a dotted name, by which mmengine would not know it."""
    if not isinstance(strategy, dict):
        return strategy
    # A copy: mmengine writes the run's folder into it, which a second run of the same config would inherit.
    strategy = dict(strategy)
    if isinstance(strategy.get('type'), str):
        strategy['type'] = STRATEGIES.get(strategy['type']) or strategy['type']
    return strategy
