"""How far a measured share may be from the true one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt
from statistics import NormalDist, fmean, stdev

import numpy as np
from scipy.special import stdtrit


def wilson_interval(correct: float, total: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a share: sound also for few samples and for shares near 0 and 1.

    Args:
        correct: Number of hits.
        total: Number of independent trials, at least 1.
        confidence: Share of repetitions in which the interval holds the true value.

    Returns:
        Lower and upper end, between 0 and 1.

    Raises:
        ValueError: ``total`` is not positive, or ``correct`` is not within 0 and ``total``.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    if total <= 0 or not 0 <= correct <= total:
        raise ValueError(f'{correct} hits of {total} trials: needs at least one trial and 0 to {total} hits')
    # Two-sided: of 0.95, half of what is missing lies on either side.
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, spread = correct / total, z * z / total
    centre = (share + spread / 2) / (1 + spread)
    half = z * sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    # At shares of exactly 0 and 1 rounding may lead a little outside.
    return max(0.0, centre - half), min(1.0, centre + half)


def mean_interval(values: Sequence[float], *, confidence: float = 0.95) -> tuple[float, float]:
    """Student's t interval of the mean of a few repetitions, such as seeds.

    Args:
        values: At least two.
        confidence: Share of repetitions in which the interval holds the true mean.

    Raises:
        ValueError: There are fewer than two.
    """
    if len(values) < 2:
        raise ValueError(f'{len(values)} value: an interval of a mean needs at least two')
    centre = fmean(values)
    # stdev divides by n - 1, the degrees of freedom of t.
    half = float(stdtrit(len(values) - 1, (1 + confidence) / 2)) * stdev(values) / sqrt(len(values))
    return centre - half, centre + half


def bootstrap_interval(
    counts: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    *,
    confidence: float = 0.95,
    resamples: int = 500,
) -> tuple[float, float]:
    """Percentile interval of a statistic of summed counts, when the samples are drawn anew with replacement.

    Args:
        counts: What each of n samples contributes, ``[n, ...]``.
        statistic: From sums ``[r, ...]`` over r resampled sets to r values.
        confidence: Share of the resampled sets inside.
        resamples: How many sets to draw; the draws are the same every time.

    Returns:
        Lower and upper end.

    Raises:
        ValueError: There are no samples.

    Source: Efron 1979, "Bootstrap methods: another look at the jackknife".
    """
    if not len(counts):
        raise ValueError('an interval needs at least one sample')
    # One order whatever the processes and batches were, so that equal samples give equal draws.
    counts = counts[sorted(range(len(counts)), key=lambda number: counts[number].tobytes())]
    rng = np.random.default_rng(0)
    # How often each sample is in each set; sums are then one matrix product.
    weights = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=resamples)
    # [r, n] by [n, all counts of a sample], then into the shape of a sample again.
    sums = (weights @ counts.reshape(len(counts), -1)).reshape(resamples, *counts.shape[1:])
    low, high = np.nanquantile(statistic(sums), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
