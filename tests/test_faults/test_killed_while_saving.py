"""A process killed at any moment of a save never leaves a newest state that cannot be read."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch

from internvl_mm.engine.checkpoint import check_files, load_state, point_latest, prune, save_state
from internvl_mm.utils.states import latest_state

KILLS = 200


def save_for_ever(folder: Path, start: int) -> None:
    """What a training does, without the training."""
    number = start
    while True:
        number += 1
        save(folder, number)


def save(folder: Path, number: int) -> None:
    """One state, as the runner and its hook write it."""
    state = save_state(
        folder / f'iter_{number:06d}',
        dict(model={'weight': torch.full((4096,), float(number))}, meta=dict(world_size=1, iter=number)),
        dict(rng=dict(torch=torch.get_rng_state())),
    )
    point_latest(state)
    prune(folder, keep_last=2)


@pytest.mark.slow
def test_two_hundred_kills(tmp_path: Path) -> None:
    draw, last, moments = random.Random(0), 1, 0
    started = time.perf_counter()
    save(tmp_path, 1)
    # Disks differ: kills are spread over two saves of this one.
    longest = 2 * (time.perf_counter() - started)
    for _ in range(KILLS):
        # A fork, so that the child starts in microseconds; it never returns into the test.
        child = os.fork()
        if child == 0:
            save_for_ever(tmp_path, last)
        time.sleep(draw.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        state = latest_state(tmp_path)
        check_files(state)
        found = load_state(state)
        number = found['meta']['iter']
        assert number >= last, 'a newer state was lost'
        assert torch.equal(found['model']['weight'], torch.full((4096,), float(number)))
        moments += any(path.name.endswith('.unfinished') for path in tmp_path.iterdir())
        last = number
    # Most kills have to hit a save, or this test proves nothing.
    assert last > KILLS // 4 and moments > KILLS // 4
