"""Runs leave nothing behind for the next test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch.distributed as dist


@pytest.fixture(autouse=True)
def no_process_group_left() -> Iterator[None]:
    """Collective strategies found a process group, of one process here."""
    yield
    if dist.is_initialized():
        dist.destroy_process_group()
