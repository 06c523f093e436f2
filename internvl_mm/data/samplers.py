"""Orders of samples, the same for any number of processes and exact after a resume.

Every order is a global one; rank r of w takes positions r, r + w, r + 2w, …. The ranks' k-th batches of b samples then
hold exactly the global positions of the k-th batch of w·b samples, whatever w is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sized

import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch import Tensor
from torch.utils.data import Sampler

from internvl_mm.registry import DATA_SAMPLERS
from internvl_mm.utils.errors import ConfigError

_PIECE = 4096  # positions of an order that become Python numbers at a time


class SampleIndex(int):
    """An index that carries the epoch and the seed of the run.

    It is an ``int`` to every data set, and it tells ours which epoch to draw, also inside worker processes that were
    started epochs ago, which no attribute of the data set would reach.

    Args:
        index: Position in the data set.
        epoch: Pass over the data, from 0.
        seed: Seed of the run.
    """

    epoch: int
    seed: int

    def __new__(cls, index: int, epoch: int = 0, seed: int = 0) -> SampleIndex:
        self = super().__new__(cls, index)
        self.epoch, self.seed = epoch, seed
        return self

    def __reduce__(self) -> tuple:
        return SampleIndex, (int(self), self.epoch, self.seed)

    def to(self, index: int) -> SampleIndex:
        """Another index of the same epoch and seed."""
        return SampleIndex(index, self.epoch, self.seed)


class _Sampler(Sampler):
    """What all samplers here share: this process's share of a global order, and where in it to begin."""

    def __init__(self, dataset: Sized, seed: int | None):
        if len(dataset) == 0:
            raise ConfigError('the data set is empty: there is nothing to sample')
        self.rank, self.world_size = get_dist_info()
        self.size = len(dataset)
        self.seed = sync_random_seed() if seed is None else seed
        self._start = 0

    def skip(self, num_samples: int) -> None:
        """Let the next iteration (only that) begin after ``num_samples`` samples of this process: a resumed run.

        Within an epoch that is batches done × batch size. No skipped sample is read.
        """
        self._start = num_samples

    def _take_start(self) -> int:
        start, self._start = self._start, 0
        return start

    def _order(self, epoch: int) -> Tensor:
        """The permutation of one epoch, a function of (seed, epoch) only."""
        # So far apart that runs of neighbouring seeds share no permutation below a million epochs.
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        return torch.randperm(self.size, generator=generator)


def _numbers(order: Tensor) -> Iterator[int]:
    # Piece by piece: as a list, ten million Python numbers take 400 MB and half a second.
    for part in order.split(_PIECE):
        yield from part.tolist()


@DATA_SAMPLERS.register_module()
class EpochSampler(_Sampler):
    """Training order for epoch-based loops: each epoch a new permutation, shared by all processes.

    All processes get the same number of samples; at most world size − 1 of an epoch's order stay out.

    Args:
        dataset: What to sample.
        seed: Seed of the run, the same on every process; the runner gives it.
    """

    def __init__(self, dataset: Sized, *, seed: int | None = None):
        super().__init__(dataset, seed)
        self.epoch = 0
        if self.size < self.world_size:
            raise ConfigError(
                f'{self.size} samples cannot be shared by {self.world_size} processes: start fewer'
            )

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; mmengine's ``DistSamplerSeedHook`` calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Samples of this process per epoch, a skipped beginning included."""
        return self.size // self.world_size

    def skip(self, num_samples: int) -> None:
        """See :meth:`_Sampler.skip`.

        Raises:
            ConfigError: The epoch has fewer samples.
        """
        if num_samples > len(self):
            raise ConfigError(
                f'cannot skip {num_samples} samples of an epoch of {len(self)}: iteration-based loops, whose steps '
                'count on across epochs, need sampler=dict(type=StreamSampler)'
            )
        super().skip(num_samples)

    def __iter__(self) -> Iterator[SampleIndex]:
        # Cut to one length: the ranks below size % world_size would have one sample more.
        share = self._order(self.epoch)[self.rank :: self.world_size][: len(self)]
        return (SampleIndex(index, self.epoch, self.seed) for index in _numbers(share[self._take_start() :]))


@DATA_SAMPLERS.register_module()
class StreamSampler(_Sampler):
    """Training order for iteration-based loops: the permutations of all epochs one after the other, without end.

    Args:
        dataset: What to sample.
        seed: Seed of the run, the same on every process; the runner gives it.
    """

    def __init__(self, dataset: Sized, *, seed: int | None = None):
        super().__init__(dataset, seed)

    def __len__(self) -> int:
        """Samples of this process in one pass over the data; the stream itself has no end."""
        return math.ceil(self.size / self.world_size)

    def __iter__(self) -> Iterator[SampleIndex]:
        # The global position of this process's next sample, split at the ends of the epochs.
        epoch, position = divmod(self.rank + self._take_start() * self.world_size, self.size)
        while True:
            for index in _numbers(self._order(epoch)[position :: self.world_size]):
                yield SampleIndex(index, epoch, self.seed)
                position += self.world_size
            # Small data on many processes: the next position of this process may lie more than one epoch ahead.
            skipped, position = divmod(position, self.size)
            epoch += skipped


@DATA_SAMPLERS.register_module()
class EvalSampler(_Sampler):
    """Evaluation order: every sample in its own order, shared evenly by all processes.

    Every process makes the same number of steps, which sharded models need; the up to world size − 1 samples that are
    repeated for it come last in the global order. They count once: our metrics keep results by data set and index, and
    mmengine's ``BaseMetric`` cuts the gathered, interleaved results at the length of the data set.

    Args:
        dataset: What to sample.
        seed: Given by the runner and of no effect.
    """

    def __init__(self, dataset: Sized, *, seed: int | None = None):
        # Not None, for which all processes would have to agree on a seed that nothing uses.
        super().__init__(dataset, seed or 0)

    def __len__(self) -> int:
        """Samples of this process."""
        return math.ceil(self.size / self.world_size)

    def __iter__(self) -> Iterator[SampleIndex]:
        # Beyond the end the first samples come again, so that all processes take as many steps; metrics drop them.
        positions = range(self.rank, len(self) * self.world_size, self.world_size)
        return (SampleIndex(position % self.size) for position in positions[self._take_start() :])
