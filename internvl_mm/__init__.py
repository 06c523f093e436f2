"""internvl_mm: one InternViT, one config tree, every job.

Importing it registers our classes with transformers, so that ``AutoModel.from_pretrained(folder)`` of a published
folder runs our code and never the folder's.
"""

import logging
import os
import warnings
from importlib.metadata import PackageNotFoundError, version

from packaging.version import Version

__version__ = '0.1.0'
__all__ = ['load_model']

# First version that works, first version nobody has tried.
_TESTED = {'torch': ('2.10', '2.16'), 'transformers': ('5.3', '6')}


def _check_dependencies() -> None:
    for name, (oldest, untried) in _TESTED.items():
        wanted = f'internvl_mm {__version__} needs {name}>={oldest},<{untried}'
        try:
            found = Version(version(name))
        except PackageNotFoundError as error:
            raise ImportError(
                f"{wanted}, which is not installed: pip install '{name}>={oldest},<{untried}'"
            ) from error
        if found < Version(oldest):
            raise ImportError(
                f"{wanted}, but {found} is installed: pip install '{name}>={oldest},<{untried}'"
            )
        if found >= Version(untried):
            warnings.warn(f'{wanted}; {found} is installed and nobody has tried it yet', stacklevel=3)


_check_dependencies()

import torch  # noqa: E402 (after the check, whose messages are the clearer ones)

from .utils.late_deepspeed import import_mmengine_without_deepspeed  # noqa: E402

# mmengine and peft import bitsandbytes where it is installed, which on CPUs asks for one more package in every command.
logging.getLogger('bitsandbytes.backends.cpu.ops').setLevel(logging.ERROR)
import_mmengine_without_deepspeed()

if not torch.cuda.is_available():
    # Else DeepSpeed warns wherever it is imported that it found no accelerator.
    os.environ.setdefault('DS_ACCELERATOR', 'cpu')

from . import ops  # noqa: E402, F401 (before anything imports mmdet or mmseg, which ask for mmcv.ops)
from .models.hub import load_model, register  # noqa: E402

register()
