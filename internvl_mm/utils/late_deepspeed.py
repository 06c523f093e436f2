"""DeepSpeed is imported by the strategies that use it, and not by everyone who imports mmengine's runner."""

from __future__ import annotations

import importlib
import sys
from typing import Any


def import_mmengine_without_deepspeed() -> None:
    """Import mmengine's runner as where DeepSpeed is not installed, which it allows for.

    It imports DeepSpeed for a strategy that ours replaces: two seconds of every command, and an error in every command
    where a version lacks ``fp16.onebit`` (0.19.8 does). Does nothing where either was imported before.
    """
    if {'deepspeed', 'mmengine.runner'} & set(sys.modules):
        return
    # With what these import, such as transformers, which looks for DeepSpeed as well and remembers what it found.
    importlib.import_module('mmengine.model')
    importlib.import_module('mmengine.optim')
    modules: dict[str, Any] = sys.modules
    # What is None there cannot be imported: an ImportError, as mmengine expects.
    modules['deepspeed'] = None
    try:
        importlib.import_module('mmengine.runner')
    finally:
        del modules['deepspeed']
