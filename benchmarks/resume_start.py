"""First batch after resuming, whatever the step and however many samples: sampler, mixture of data sets, packs.

Each case starts as a resumed run does: the index arrays are made (or, for packs, the kept plan is read), the sampler
jumps to step 100,000 and gives the first indices; a batch of the samples themselves then takes as long as at any other
step. The peer is what replays skipped steps, as mmengine's loops do with samplers that cannot jump: it draws every
index up to the step. Memory is what the process grows by.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Sized

import numpy as np

from benchmarks.harness import ExtraMemory, Row, in_new_process
from benchmarks.packing_plan import draw_sizes
from internvl_mm.data.datasets.meta_mixture import choose_rows
from internvl_mm.data.pack_cache import find_plan
from internvl_mm.data.samplers import StreamSampler

COUNTS = (10_000, 100_000, 1_000_000, 10_000_000)
PACKED = 1_000_000  # samples that packs are planned of
STEPS, BATCH = 100_000, 8
GOAL_SECONDS = 2.0


class Numbered(Sized):
    """A data set of a length and nothing else."""

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count


def jump(count: int) -> list[int]:
    """First batch at the step."""
    sampler = StreamSampler(Numbered(count), seed=0)
    sampler.skip(STEPS * BATCH)
    return [int(index) for index in itertools.islice(sampler, BATCH)]


def replay(count: int) -> list[int]:
    """The same, by drawing everything before it."""
    iterator = iter(StreamSampler(Numbered(count), seed=0))
    return [int(index) for index in itertools.islice(iterator, STEPS * BATCH, (STEPS + 1) * BATCH)]


def mixture(count: int) -> list[int]:
    """Rows of ten data sets with weights, then a jump."""
    parts = [
        choose_rows(np.arange(count // 10), None, 1 + 0.1 * (number % 3), np.random.default_rng((0, number)))
        for number in range(10)
    ]
    rows = np.concatenate(parts)
    return [int(rows[index]) for index in jump(len(rows))]


def packs(count: int, folder: str) -> list[int]:
    """A kept plan, then a jump over its packs."""
    sizes = draw_sizes(count, text_only=False)
    plan = find_plan(sizes, max_tokens=16_384, max_tiles=48, seed=0, folder=folder)
    return [member for pack in jump(len(plan)) for member in plan[pack]]


def _case(name: str, arguments: tuple) -> tuple[float, int]:
    start = time.perf_counter()
    with ExtraMemory() as extra:
        globals()[name](*arguments)
    return time.perf_counter() - start, extra.bytes


def measure(name: str, *arguments: object) -> tuple[float, int]:
    """Seconds and bytes of a case in a fresh process."""
    return in_new_process(_case, name, arguments)


def run(quick: bool = False) -> list[Row]:
    """Time to the first batch."""
    counts, rows = (COUNTS[:2] if quick else COUNTS), []
    packed = PACKED // 20 if quick else PACKED

    def add(what: str, peer: str, mine: float, other: float, memory: int) -> None:
        ratio = other / mine
        note = f'{memory / 1e6:.0f} MB more memory; limit {GOAL_SECONDS:g} s'
        rows.append(Row(what, peer, mine, other, 's', ratio, ratio, ratio, 1.0, note))

    for count in counts:
        if jump(count) != replay(count):
            raise AssertionError(f'the jump among {count} samples lands elsewhere than drawing up to there')
        seconds, memory = measure('jump', count)
        add(f'{count:,} samples, sampler', 'replay', seconds, measure('replay', count)[0], memory)
        seconds, memory = measure('mixture', count)
        add(f'{count:,} samples, mixture of ten', 'limit', seconds, GOAL_SECONDS, memory)
    with tempfile.TemporaryDirectory() as folder:
        first, _ = measure('packs', packed, folder)
        seconds, memory = measure('packs', packed, folder)
        add(f'{packed:,} samples, packs, kept plan', 'planning again', seconds, first, memory)
    return rows
