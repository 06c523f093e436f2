"""Waiting for a process that is busy for long, without the limit of minutes that communication has by default."""

from __future__ import annotations

import atexit
import contextlib
import datetime
from typing import Any

import torch.distributed as dist
from mmengine.dist import get_world_size

# Syncing and hashing a terabyte, or a sweep of probes, takes longer than the half hour torch gives by default (nccl ten
# minutes). That a process died is noticed at once by its connection, and that one hangs by HangWatchHook.
PATIENCE = datetime.timedelta(days=1)


def patient_group() -> Any:
    """A process group on the CPU whose meetings may last a day; ``None``, the default group, of one process.

    Called by every process alike, as torch demands.
    """
    if get_world_size() == 1:
        return None
    group = dist.new_group(backend='gloo', timeout=PATIENCE)
    # Beside nccl nobody else would leave it before the interpreter ends (see strategies/launch.py).
    atexit.register(_leave, group)
    return group


def _leave(group: Any) -> None:
    if dist.is_initialized():
        with contextlib.suppress(ValueError):  # left before, with the group of all
            dist.destroy_process_group(group)
