"""Training order in which neighbours are of similar length, so that padded batches waste little."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from internvl_mm.data.samplers import EpochSampler
from internvl_mm.registry import DATA_SAMPLERS
from internvl_mm.utils.checks import check_counts


@DATA_SAMPLERS.register_module()
class LengthGroupedSampler(EpochSampler):
    """A permutation per epoch, sorted by length within groups of steps; the steps of a group come in random order.

    Lengths are those of the whole sample, tiles included, as the data set measures them (the published code assumes
    the most tiles for every sample).

    Args:
        dataset: A chat data set: its ``sizes()`` tell tokens and tiles.
        batch_size: Samples of one process per step, the loader's.
        group: Steps that are sorted together: more waste less, and mix less.
        seed: Seed of the run, the same on every process; the runner gives it.
    """

    def __init__(self, dataset: Any, *, batch_size: int, group: int = 50, seed: int | None = None):
        super().__init__(dataset, seed=seed)
        check_counts(batch_size=batch_size, group=group)
        # Tokens, [n]; the second column counts tiles.
        self._lengths = torch.from_numpy(np.ascontiguousarray(dataset.sizes()[:, 0]))
        self._step, self._group = batch_size * self.world_size, group

    def _order(self, epoch: int) -> Tensor:
        """Consecutive positions of one step have similar lengths; the last step, which may be short, stays last."""
        order = super()._order(epoch)
        # The same on every process, so that all take their share of one global order.
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        parts = []
        for group in order.split(self._step * self._group):
            # Stable, so that every process orders equal lengths alike.
            ordered = group[self._lengths[group].argsort(descending=True, stable=True)]
            steps = list(ordered.split(self._step))
            full = [step for step in steps if len(step) == self._step]
            parts += [full[i] for i in torch.randperm(len(full), generator=generator).tolist()]
            # In the middle a short step would shift all later ones; only the last group has one.
            parts += steps[len(full) :]
        return torch.cat(parts)
