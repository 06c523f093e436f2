"""Waiting for a process that is busy for long, without the limit of minutes that communication has by default."""

from __future__ import annotations

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
    return dist.new_group(backend='gloo', timeout=PATIENCE) if get_world_size() > 1 else None
