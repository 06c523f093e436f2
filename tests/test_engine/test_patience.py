"""Groups for long waits are left before the interpreter ends."""

from __future__ import annotations

import atexit

import pytest
import torch.distributed as dist

from internvl_mm.engine import patience
from internvl_mm.engine.strategies.launch import join_group


def test_a_group_is_left_at_exit(monkeypatch: pytest.MonkeyPatch) -> None:
    join_group('none')
    at_exit = []
    monkeypatch.setattr(patience, 'get_world_size', lambda: 2)
    monkeypatch.setattr(
        atexit, 'register', lambda function, *arguments: at_exit.append((function, arguments))
    )
    group = patience.patient_group()
    ((leave, arguments),) = at_exit
    assert dist.get_rank(group) == 0
    leave(*arguments)
    # The group of all is left by whoever founded it.
    assert dist.is_initialized()
    with pytest.raises(ValueError, match='not registered'):
        dist.get_rank(group)
    leave(*arguments)
