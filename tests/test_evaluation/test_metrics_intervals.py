"""Wilson intervals against scipy's."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from internvl_mm.evaluation.intervals import mean_interval, wilson_interval


@pytest.mark.parametrize(('correct', 'total'), [(0, 10), (3, 10), (10, 10), (356, 360), (44_115, 50_000)])
@pytest.mark.parametrize('confidence', [0.9, 0.95])
def test_equals_scipy(correct: int, total: int, confidence: float) -> None:
    expected = binomtest(correct, total).proportion_ci(confidence, method='wilson')
    assert wilson_interval(correct, total, confidence=confidence) == pytest.approx(
        (expected.low, expected.high)
    )


@pytest.mark.parametrize(('correct', 'total'), [(0, 0), (5, 4), (-1, 4)])
def test_impossible_counts(correct: int, total: int) -> None:
    with pytest.raises(ValueError, match=f'{correct} hits of {total} trials'):
        wilson_interval(correct, total)


def test_interval_of_a_mean_is_students() -> None:
    # by hand: mean 2, standard deviation 1, t(0.975, 2) = 4.30265
    assert mean_interval([1.0, 2.0, 3.0]) == pytest.approx(
        (2 - 4.30265 / 3**0.5, 2 + 4.30265 / 3**0.5), abs=1e-4
    )
    with pytest.raises(ValueError, match='needs at least two'):
        mean_interval([1.0])
