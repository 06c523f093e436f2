"""Planning packs of a million samples: time, memory and how full the packs are.

Sizes are drawn like those of chat data: text of lognormal length, pictures of 1 to 13 tiles with 256 tokens each. The
gate: every sample in exactly one pack, and no pack above its caps. Each case runs in a process of its own, so that its
peak memory is known (on Linux); what it holds before planning, the sizes included, is taken off.
"""

from __future__ import annotations

import time

import numpy as np

from benchmarks.harness import ExtraMemory, Row, in_new_process
from internvl_mm.data.packing import PackPlan, plan_packs

SAMPLES = 1_000_000
# Name → (max_tokens, max_tiles): the published stages, and text alone in a short context.
CASES = {
    '16k tokens, 48 tiles': (16_384, 48),
    '8k tokens, 40 tiles': (8192, 40),
    '4k tokens, text': (4096, 1),
}
GOAL_SECONDS, GOAL_BYTES, GOAL_FILL = 20.0, 1e9, 0.97


def draw_sizes(count: int, *, text_only: bool) -> np.ndarray:
    """Tokens and tiles, int64 ``[count, 2]``."""
    rng = np.random.default_rng(0)
    text = np.clip(rng.lognormal(5, 1, count), 16, 3500).astype(np.int64)
    tiles = rng.choice([0, 1, 3, 5, 7, 9, 13], count, p=[0.25, 0.1, 0.15, 0.15, 0.15, 0.1, 0.1])
    tiles = tiles * (not text_only)
    return np.stack([text + tiles * 256, tiles], axis=1)


def check(plan: PackPlan, sizes: np.ndarray, max_tokens: int, max_tiles: int) -> None:
    """Raise unless the plan is a partition within its caps."""
    seen = np.bincount(np.concatenate([plan.members, plan.left_out]), minlength=len(sizes))
    totals = np.add.reduceat(sizes[plan.members], plan.starts[:-1], axis=0)
    if (seen != 1).any() or (totals > (max_tokens, max_tiles)).any():
        raise AssertionError('a sample is lost or doubled, or a pack exceeds a cap')


def _case(count: int, max_tokens: int, max_tiles: int) -> tuple[float, int, float, int]:
    """Seconds, bytes, share of the packs that is filled, and their number."""
    sizes = draw_sizes(count, text_only=max_tiles == 1)
    start = time.perf_counter()
    with ExtraMemory() as extra:
        plan = plan_packs(sizes, max_tokens=max_tokens, max_tiles=max_tiles)
    seconds = time.perf_counter() - start
    check(plan, sizes, max_tokens, max_tiles)
    return seconds, extra.bytes, plan.fill, len(plan)


def run(quick: bool) -> list[Row]:
    """Seconds and bytes of each case against their limits."""
    count = SAMPLES // 20 if quick else SAMPLES
    share = count / SAMPLES
    rows = []
    for name, caps in CASES.items():
        seconds, peak, fill, packs = in_new_process(_case, count, *caps)
        note = f'{fill:.1%} full (goal {GOAL_FILL:.0%}), {packs:,} packs'
        limits = (('time', seconds, GOAL_SECONDS * share, 's'), ('memory', peak, GOAL_BYTES * share, 'B'))
        for what, ours, limit, unit in limits:
            ratio = limit / max(ours, 1e-9)
            title = f'{count:,} samples, {name}: {what}'
            rows.append(Row(title, 'limit', ours, limit, unit, ratio, ratio, ratio, 1.0, note))
    return rows
