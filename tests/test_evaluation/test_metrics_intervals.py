"""Wilson intervals against scipy's."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from internvl_mm.evaluation.intervals import wilson_interval


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
