"""Scikit-learn's 1,797 scanned handwritten digits and their fixed, disjoint train / test split."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from internvl_mm.utils.errors import DataError, did_you_mean

SPLITS = ('train', 'test')
TEST_SIZE = 360  # one fifth of 1,797; the other 1,437 scans are for training
SPLIT_SEED = 0  # part of the data set's definition: never a user setting, so that scores stay comparable


@dataclass(frozen=True, eq=False)
class SourceDigits:
    """Scanned digits of one split.

    Args:
        scans: uint8 [N, 8, 8], ink from 0 (paper) to 16 (full).
        values: int64 [N], the digit written, 0–9.
        rows: int64 [N], position of each scan among the 1,797 that scikit-learn ships.
    """

    scans: np.ndarray
    values: np.ndarray
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.values)


@lru_cache(maxsize=len(SPLITS))
def load_source_digits(split: str) -> SourceDigits:
    """Return the scans of one split: 1,437 for ``train``, 360 for ``test``, stratified by digit, never shared.

    Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI repository (CC BY 4.0), in
    the 8×8 form bundled with scikit-learn.

    Raises:
        DataError: ``split`` is neither ``train`` nor ``test``.
    """
    check_split(split)
    # Imported late: scikit-learn takes a second to import, and most of the package never needs it.
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bundle = load_digits()
    train, test = train_test_split(
        np.arange(len(bundle.target)), test_size=TEST_SIZE, stratify=bundle.target, random_state=SPLIT_SEED
    )
    rows = np.sort(train if split == 'train' else test)
    # Floats upstream, but whole numbers: ink from 0 to 16.
    return SourceDigits(bundle.images[rows].astype(np.uint8), bundle.target[rows].astype(np.int64), rows)


def check_split(split: str) -> None:
    """Refuse a split that does not exist.

    Raises:
        DataError: ``split`` is neither ``train`` nor ``test``.
    """
    if split not in SPLITS:
        raise DataError(
            f"split={split!r} is not a split of DigitScenes; use 'train' or 'test'.{did_you_mean(split, SPLITS)}"
        )
