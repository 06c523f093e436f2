"""Signals to a whole job reach the process that decides, not those that read for it."""

from __future__ import annotations

import subprocess
import time
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from internvl_mm.data.worker_signals import deafen_workers


class Slow(Dataset):
    """Numbers, the last of them after a minute."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> int:
        if index == 5:
            time.sleep(60)
        return index


def start() -> tuple[Any, Any]:
    loader = deafen_workers(DataLoader(Slow(), num_workers=1, prefetch_factor=1))
    batches = iter(loader)
    assert next(batches) == torch.tensor([0])
    return batches, batches._workers[0]


@pytest.mark.parametrize('name', ['TERM', 'USR1', 'INT'])
def test_a_worker_outlives_what_a_scheduler_sends(name: str) -> None:
    batches, worker = start()
    # From another process, as Slurm's: a signal of the parent means the worker alone.
    subprocess.run(['kill', f'-{name}', str(worker.pid)], check=True)
    assert [int(next(batches)) for _ in range(4)] == [1, 2, 3, 4] and worker.is_alive()


def test_ctrl_c_is_left_to_the_run_also_on_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr('signal.sigwaitinfo')
    batches, worker = start()
    subprocess.run(['kill', '-INT', str(worker.pid)], check=True)
    assert [int(next(batches)) for _ in range(4)] == [1, 2, 3, 4] and worker.is_alive()


def test_its_parent_can_end_it() -> None:
    batches, worker = start()
    for _ in range(4):
        next(batches)
    time.sleep(0.2)  # it sleeps over the last sample now
    worker.terminate()
    worker.join(10)
    assert worker.exitcode == 0
    del batches


def test_what_a_loader_does_at_the_start_of_a_worker_is_still_done() -> None:
    def first(number: int) -> None:
        torch.manual_seed(70 + number)

    class Draws(Slow):
        def __getitem__(self, index: int) -> int:
            return torch.initial_seed()

    loader = deafen_workers(DataLoader(Draws(), num_workers=2, worker_init_fn=first))
    assert [int(seed) for seed in loader] == [70, 71] * 3
