"""Whether the process that wrote a file still runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PROC = Path('/proc')


def this_process() -> dict[str, Any] | None:
    """What tells this process from every other one, to be kept in a file; ``None`` on systems without ``/proc``."""
    try:
        return dict(_here(), pid=os.getpid(), started=_state_and_start(os.getpid())[1])
    except OSError:
        return None


def is_dead(mark: Mapping[str, Any] | None) -> bool | None:
    """Whether the process of a mark has ended; ``None`` where this machine cannot tell: it may run on another.

    Args:
        mark: What :func:`this_process` gave in that process.
    """
    try:
        here = _here()
    except OSError:
        return None
    if not mark or any(mark.get(name) != value for name, value in here.items()):
        return None
    try:
        state, started = _state_and_start(int(mark['pid']))
    except FileNotFoundError:
        return True
    except (OSError, KeyError, ValueError, TypeError):
        return None
    # Numbers of processes are given out again; a zombie only waits for its parent to look.
    return started != mark.get('started') or state in 'ZX'


def _here() -> dict[str, str]:
    # By the start of the system, not by the host's name, which containers may share; each container counts on its own.
    boot = (_PROC / 'sys/kernel/random/boot_id').read_text('utf-8').strip()
    return dict(boot=boot, namespace=os.readlink(_PROC / 'self/ns/pid'))


def _state_and_start(pid: int) -> tuple[str, int]:
    """State letter, and start in clock ticks since the system's (fields 3 and 22, see proc(5))."""
    # After the last bracket: the name of the program, field 2, may hold anything.
    fields = (_PROC / str(pid) / 'stat').read_text('utf-8', 'replace').rpartition(')')[2].split()
    return fields[0], int(fields[19])
