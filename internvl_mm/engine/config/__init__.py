"""Configs before work: finding, loading, and checking every setting without building anything."""

from .checking import check_config
from .checkpoint import set_checkpoint
from .loading import config_root, load_config, set_option

__all__ = ['check_config', 'config_root', 'load_config', 'set_checkpoint', 'set_option']
