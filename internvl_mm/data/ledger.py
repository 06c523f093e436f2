"""The account of samples that could not be read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from internvl_mm.structures import BadSample
from internvl_mm.utils.errors import DataError


class Ledger:
    """Writes each bad sample as a JSON line (dataset, index, path, reason) and stops a run that meets too many.

    Args:
        path: File to append to; made with the first bad sample.
        max_fraction: Largest share of bad samples among all samples seen.
        patience: So many bad samples are forgiven before the share counts: early on it says little.
    """

    def __init__(self, path: str | Path, *, max_fraction: float = 0.001, patience: int = 50):
        self.path = Path(path)
        self.max_fraction = max_fraction
        self.patience = patience
        self.num_seen = 0
        self.num_bad = 0
        self._written: set[tuple[str, int]] = set()

    def update(self, bad_samples: Sequence[BadSample], batch_size: int) -> None:
        """Count one batch and write its bad samples; a sample met again in a later epoch gets no second line.

        Args:
            bad_samples: What could not be read.
            batch_size: Samples of the batch that were asked for, bad ones included.

        Raises:
            DataError: More than ``max_fraction`` of all samples are bad, or the ledger cannot be written.
        """
        self.num_seen += batch_size
        # Also those met before: num_seen counts every epoch, and the share is of the same samples.
        self.num_bad += len(bad_samples)
        # One line also where a batch meets a bad sample twice.
        new = {(sample.dataset, sample.index): sample for sample in bad_samples}
        lines = [
            json.dumps(sample.as_dict(), ensure_ascii=False) + '\n'
            for key, sample in new.items()
            if key not in self._written
        ]
        self._written.update(new)
        if lines:
            self._append(''.join(lines))
        if self.num_bad > self.patience and self.num_bad > self.max_fraction * self.num_seen:
            raise DataError(
                f'{self.num_bad} of {self.num_seen} samples are bad, more than max_fraction={self.max_fraction:g}; the '
                f'last: {bad_samples[-1].reason if bad_samples else "see the ledger"}. All of them are listed in '
                f'{self.path}: repair the data, or raise max_fraction if so many may be missing'
            )

    def _append(self, text: str) -> None:
        try:
            # Opened and closed for each batch: what was found survives a run that is killed.
            with open(self.path, 'a', encoding='utf-8') as file:
                file.write(text)
        except OSError as error:
            raise DataError(
                f'the ledger of bad samples cannot be written to {self.path}: {error.strerror}'
            ) from error
