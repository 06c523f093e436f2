"""Saving a training state against mmengine's way: how long training stands still, extra memory; loading by memory map.

The state is weights, two AdamW moments per value, in fp32. The gate: what was saved comes back equal. Training stands
still from the call that saves until the next optimiser step may run: once with that step right after the call (the
worst case), once after a forward and backward pass that takes as long as mmengine's saving. Memory is the highest
resident memory of a fresh process less what it holds before; the system's page cache, which the kernel takes back when
it needs room, is not in it. Loading is measured up to tensors on the CPU (a memory map reads nothing yet), and with
every value copied into a model, once also with the sha256 of every file checked first.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.runner.checkpoint import _load_checkpoint, save_checkpoint
from torch import Tensor

from benchmarks.harness import ExtraMemory, Row, compare, in_new_process, interleave
from internvl_mm.engine.checkpoint import render_state, save_state
from internvl_mm.engine.savers import BackgroundSaver
from internvl_mm.engine.trees import load_tensors
from internvl_mm.utils.states import MODEL, check_files

TENSORS, SIDE = 12, 2048  # 12 × 2048² values × 3 × 4 bytes = 0.6 GB
STALL_GOAL, MEMORY_GOAL, LOAD_GOAL = 4.0, 10.0, 2.0  # 0.25, a tenth of the state, half the time


def draw_state(count: int) -> dict[str, Any]:
    """Weights and moments; random, since zeros would be cheaper to handle."""
    torch.manual_seed(0)
    weights = {f'layers.{i}.weight': torch.randn(SIDE, SIDE) for i in range(count)}
    moments = {
        i: dict(exp_avg=torch.randn(SIDE, SIDE), exp_avg_sq=torch.rand(SIDE, SIDE)) for i in range(count)
    }
    return dict(model=weights, optimizer=dict(state=moments, param_groups=[dict(lr=0.1)]))


def bytes_of(state: dict[str, Any]) -> int:
    """Bytes of all tensors of a state."""
    tensors = [*state['model'].values()]
    tensors += [value for kept in state['optimizer']['state'].values() for value in kept.values()]
    return sum(tensor.nbytes for tensor in tensors)


def theirs(state: dict[str, Any], folder: Path) -> None:
    """Save as mmengine's runner does."""
    save_checkpoint(dict(state_dict=state['model'], optimizer=state['optimizer']), str(folder / 'theirs.pth'))


def ours(state: dict[str, Any], folder: Path, saver: BackgroundSaver) -> None:
    """Save in the background, up to where the next optimiser step may run."""
    saver.save(folder / 'iter_000001', render_state(dict(state, meta=dict(iter=1)), {}), lambda path: None)


def _peak(name: str, count: int) -> float:
    state, saver = draw_state(count), BackgroundSaver()
    with tempfile.TemporaryDirectory() as folder, ExtraMemory() as extra:
        if name == 'ours':
            ours(state, Path(folder), saver)
            saver.finish()
        else:
            theirs(state, Path(folder))
    return extra.bytes / bytes_of(state)


def peak(name: str, count: int) -> float:
    """Highest extra memory, as a share of the state."""
    return in_new_process(_peak, name, count)


def stall_rows(state: dict[str, Any], folder: Path, rounds: int) -> list[Row]:
    """How long training stands still."""
    saver, seconds = BackgroundSaver(), dict(at_once=[], after_pass=[], mmengine=[])
    for _ in range(rounds + 1):
        start = time.perf_counter()
        theirs(state, folder)
        seconds['mmengine'].append(time.perf_counter() - start)
        for name in ('at_once', 'after_pass'):
            start = time.perf_counter()
            ours(state, folder, saver)
            stalled = time.perf_counter() - start
            if name == 'after_pass':
                time.sleep(seconds['mmengine'][-1])  # a pass on a device, whose process waits for it
            start = time.perf_counter()
            saver.settle()
            seconds[name].append(stalled + time.perf_counter() - start)
            saver.finish()
    # The first round writes new files, all others replace them.
    seconds = {name: values[1:] for name, values in seconds.items()}
    title = f'stall of saving {bytes_of(state) / 1e9:.1f} GB'
    return [
        compare(
            f'{title}, {what}',
            dict(ours=seconds[name], mmengine=seconds['mmengine']),
            'mmengine',
            goal=STALL_GOAL,
        )
        for name, what in (('at_once', 'step at once'), ('after_pass', 'step after a pass'))
    ]


def load_rows(state: dict[str, Any], folder: Path, rounds: int) -> list[Row]:
    """How long weights take to load."""
    save_state(folder / 'iter_000001', dict(state, meta=dict(iter=1)), {})
    save_checkpoint(dict(state_dict=state['model']), str(folder / 'theirs.pth'))
    file, model = folder / 'iter_000001' / MODEL, {n: torch.empty_like(t) for n, t in state['model'].items()}

    def copied(tensors: dict[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            model[name].copy_(tensor)

    def peer() -> dict[str, Tensor]:
        return _load_checkpoint(str(folder / 'theirs.pth'), map_location='cpu', logger='silent')['state_dict']

    for tensors in (load_tensors(file), peer()):
        for name, tensor in tensors.items():
            if not torch.equal(tensor, state['model'][name]):
                raise AssertionError(f'{name} came back changed')
    title = f'load weights of {sum(t.nbytes for t in model.values()) / 1e9:.1f} GB'
    cases: dict[str, tuple[Callable, Callable, float]] = {
        'by memory map': (lambda: load_tensors(file), peer, LOAD_GOAL),
        'into a model': (lambda: copied(load_tensors(file)), lambda: copied(peer()), LOAD_GOAL),
        'into a model, checked': (
            # The weights alone, as they would be checked alone: hashes of the moments are not part of the peer's work.
            lambda: (check_files(folder / 'weights'), copied(load_tensors(folder / 'weights' / MODEL))),
            lambda: copied(peer()),
            1.0,
        ),
    }
    save_state(folder / 'weights', dict(model=state['model']), {})
    rows = []
    for what, (mine, other, goal) in cases.items():
        seconds = interleave(dict(ours=mine, mmengine=other), rounds=rounds, warmup=1)
        rows.append(compare(f'{title} {what}', seconds, 'mmengine', goal=goal))
    return rows


def run(quick: bool = False) -> list[Row]:
    """Stall, memory, loading."""
    count, rounds = (2, 2) if quick else (TENSORS, 5)
    state, folder = draw_state(count), Path(tempfile.mkdtemp())
    try:
        rows = stall_rows(state, folder, rounds) + load_rows(state, folder, rounds)
    finally:
        shutil.rmtree(folder)
    del state
    mine, other = peak('ours', count), peak('theirs', count)
    note = f'limit {1 / MEMORY_GOAL:g} of the state'
    ratio = 1 / max(mine, 1e-3)
    rows.append(
        Row(
            'extra memory of saving',
            'mmengine',
            mine,
            other,
            'states',
            ratio,
            ratio,
            ratio,
            MEMORY_GOAL,
            note,
        )
    )
    return rows
