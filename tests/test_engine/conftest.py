"""Runs leave nothing behind for the next test."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import torch.distributed as dist


@pytest.fixture(autouse=True)
def no_process_group_left() -> Iterator[None]:
    """Collective strategies found a process group, of one process here."""
    yield
    if dist.is_initialized():
        dist.destroy_process_group()
        if 'deepspeed' in sys.modules:
            # It keeps groups of its own in globals, which would outlive the process group they belong to.
            from deepspeed.utils import groups

            for name, value in vars(groups).items():
                if name.endswith('_GROUP') and isinstance(value, dist.ProcessGroup):
                    setattr(groups, name, None)
