"""Several annotations of conversations as one data set."""

from __future__ import annotations

from typing import Any

import numpy as np

from internvl_mm.data.datasets.chat import ChatDataset
from internvl_mm.data.datasets.meta_mixture import MetaMixture
from internvl_mm.registry import DATASETS


@DATASETS.register_module()
class ChatMixture(MetaMixture):
    """:class:`MetaMixture` of conversations: index to one :class:`ChatSample`.

    Args:
        args: See :class:`MetaMixture`.
        sizes_folder: Keep tokens and tiles of the samples there: plans of packs and length groups then cost nothing
            the next time.
        sizes_workers: Processes that measure them.
        options: See :class:`MetaMixture`.
    """

    part = ChatDataset

    def __init__(self, *args: Any, sizes_folder: str | None = None, sizes_workers: int = 0, **options: Any):
        super().__init__(*args, **options)
        for dataset in self.datasets:
            dataset.keep_sizes(sizes_folder, workers=sizes_workers)
        self._sizes: np.ndarray | None = None

    def measure(self, index: int) -> tuple[int, int]:
        """See :meth:`ChatDataset.measure`."""
        dataset, row = self.locate(index)
        return dataset.measure(row)

    def sizes(self) -> np.ndarray:
        """See :meth:`ChatDataset.sizes`; a row that is repeated is measured once."""
        if self._sizes is None:
            self._sizes = np.empty((len(self), 2), np.int64)
            for number, dataset in enumerate(self.datasets):
                here = self._which == number  # bool [len]
                self._sizes[here] = dataset.sizes()[self._row[here]]
        return self._sizes
