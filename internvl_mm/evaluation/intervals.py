"""How far a measured share may be from the true one."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist


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
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, spread = correct / total, z * z / total
    centre = (share + spread / 2) / (1 + spread)
    half = z * sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)
