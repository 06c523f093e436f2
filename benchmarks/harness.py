"""Fair timing: correctness gate first, interleaved rounds, ratios of medians with bootstrap intervals.

A claim is a ratio against a named peer measured in the same process and the same rounds; absolute times are kept for
the record only, because machines differ and drift.
"""

from __future__ import annotations

import multiprocessing
import platform
import random
import re
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

PACKAGES = ('torch', 'torchvision', 'timm', 'transformers', 'numpy')


@dataclass(frozen=True)
class Row:
    """One line of a benchmark's table.

    Attributes:
        what: The cell that was measured.
        peer: Whom it is compared with.
        ours: Our median, in ``unit``.
        theirs: The peer's median, in ``unit``.
        unit: Unit of both.
        ratio: How many times better we are (above 1 is better, whatever the unit).
        low: Lower end of the ratio's 95 % bootstrap interval.
        high: Upper end.
        goal: The ratio that was promised.
        note: Anything needed to read the number.
    """

    what: str
    peer: str
    ours: float
    theirs: float
    unit: str
    ratio: float
    low: float
    high: float
    goal: float
    note: str = ''

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return asdict(self)


def synchronise() -> None:
    """Wait for the GPU, when there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class ExtraMemory:
    """Counts what a ``with`` block adds to this process at most; Linux.

    Attributes:
        bytes: Highest memory within the block, beyond what there was before it.
    """

    bytes = 0

    def __enter__(self) -> ExtraMemory:
        self._before = _status('VmRSS')
        Path('/proc/self/clear_refs').write_text(
            '5'
        )  # a new high-water mark: imports may have reached higher
        return self

    def __exit__(self, *error: object) -> None:
        self.bytes = max(_status('VmHWM') - self._before, 0)


def _status(field: str) -> int:
    """Bytes of a line of Linux's account of this process."""
    text = Path('/proc/self/status').read_text('ascii')
    return 1024 * int(re.search(rf'{field}:\s+(\d+)', text)[1])


def in_new_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of a module gives in a process of its own, which nothing before it has touched."""
    with multiprocessing.get_context('spawn').Pool(1) as pool:
        return pool.apply(function, arguments)


def processor_clock() -> float:
    """Seconds of the processor on CPUs, which other programs hardly change, and of the wall with a GPU.

    For work of this process alone in one thread: on an idle machine both are the same.
    """
    return time.perf_counter() if torch.cuda.is_available() else time.process_time()


def interleave(
    contestants: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warmup: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Time callables in turns, A B C A B C …, so that drift of the machine hits all alike.

    The order within a round is reversed every second round: whoever runs first after a pause is not always the same.

    Args:
        contestants: Name to what is timed.
        rounds: Counted rounds.
        warmup: Rounds before them.
        clock: Gives seconds; :func:`processor_clock` where a machine is shared with other work.

    Returns:
        Seconds per counted round, for each contestant.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    for index in range(warmup + rounds):
        for name in names if index % 2 == 0 else reversed(names):
            synchronise()
            start = clock()
            contestants[name]()
            synchronise()
            if index >= warmup:
                seconds[name].append(clock() - start)
    return seconds


def ratio_of_medians(
    theirs: list[float], ours: list[float], *, draws: int = 2000
) -> tuple[float, float, float]:
    """Ratio of medians theirs / ours of paired rounds, with a 95 % bootstrap interval over the rounds."""
    generator = random.Random(0)
    count = len(ours)
    samples = []
    for _ in range(draws):
        picks = [generator.randrange(count) for _ in range(count)]
        samples.append(
            statistics.median(theirs[i] for i in picks) / statistics.median(ours[i] for i in picks)
        )
    samples.sort()
    ratio = statistics.median(theirs) / statistics.median(ours)
    return ratio, samples[int(0.025 * draws)], samples[int(0.975 * draws)]


def compare(what: str, seconds: Mapping[str, list[float]], peer: str, *, goal: float, note: str = '') -> Row:
    """Make the row of 'ours' against ``peer`` from interleaved seconds."""
    ours, theirs = seconds['ours'], seconds[peer]
    ratio, low, high = ratio_of_medians(theirs, ours)
    return Row(
        what=what,
        peer=peer,
        ours=statistics.median(ours),
        theirs=statistics.median(theirs),
        unit='s',
        ratio=ratio,
        low=low,
        high=high,
        goal=goal,
        note=note,
    )


def matmul_rate(dtype: torch.dtype, device: str = 'cpu', size: int | None = None) -> float:
    """Best measured rate of a square matrix product of random numbers, in FLOP/s (2 FLOP per multiply-add).

    Sizes: 8192 on CUDA, 2048 on CPUs; large enough to be bound by arithmetic.
    """
    size = size or (8192 if device == 'cuda' else 2048)
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    seconds = interleave({'product': lambda: a @ b}, rounds=9, warmup=3)['product']
    return 2 * size**3 / min(seconds)


def environment() -> dict[str, object]:
    """What the numbers depend on."""
    info: dict[str, object] = {name: metadata.version(name) for name in PACKAGES}
    info.update(python=platform.python_version(), machine=platform.machine(), threads=torch.get_num_threads())
    info['cpu'] = _cpu_name()
    if torch.cuda.is_available():
        info['gpu'] = torch.cuda.get_device_name()
    return info


def _cpu_name() -> str:
    try:
        with open('/proc/cpuinfo') as file:
            names = [line.split(':', 1)[1].strip() for line in file if line.startswith('model name')]
    except OSError:
        names = []
    return names[0] if names else platform.processor()
