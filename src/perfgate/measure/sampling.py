"""When are there enough samples? Order statistics of the median, and nothing that needs a clock.

Samples of a duration are skewed (a machine is now and then slower, never faster than it can be), so everything here
rests on ranks: the interval of the median is one between two of the sorted samples, whatever their distribution.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from functools import lru_cache


def median_interval(samples: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Bound the median: the narrowest symmetric pair of order statistics that covers it with this confidence.

    The number of samples below the true median is binomial(n, 1/2), so the pair ``x[k], x[n-1-k]`` covers it with
    probability ``1 - 2 P(B <= k)``. Fewer than 6 samples cannot reach 95 %: then the interval is their whole range.

    Args:
        samples: at least one, in any order.
        confidence: of the interval, above 0 and below 1.

    Returns:
        Lower and upper bound, in the unit of the samples.
    """
    if not samples:
        raise ValueError("the median of no samples has no interval")
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence lies between 0 and 1, not at {confidence}")
    ordered = sorted(samples)
    rank = _rank(len(ordered), confidence)
    return ordered[rank], ordered[-1 - rank]


def enough(samples: Sequence[float], target: float, min_samples: int) -> bool:
    """Say whether the median is known to within ``target`` of itself.

    Args:
        samples: what there is so far.
        target: half the width of the median's 95 % interval, as a share of the median.
        min_samples: with fewer it is never enough.
    """
    if len(samples) < max(min_samples, 1):
        return False
    low, high = median_interval(samples)
    return high - low <= 2 * target * abs(statistics.median(samples))


def spread(samples: Sequence[float]) -> float:
    """Give (q3 - q1) / median of the samples; 0 for a single sample, and where the median is 0."""
    median = statistics.median(samples)
    if len(samples) < 2 or median == 0:
        return 0.0
    q1, _, q3 = statistics.quantiles(samples, n=4, method="inclusive")
    return (q3 - q1) / abs(median)


@lru_cache(maxsize=4096)
def _rank(count: int, confidence: float) -> int:
    """Give the largest k with ``2 P(binomial(count, 1/2) <= k) <= 1 - confidence``, or 0 where there is none."""
    if count >= 1000:
        # Far from the tails the normal approximation is right to a rank.
        reach = statistics.NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(count) / 2
        return math.floor(count / 2 - reach - 0.5)
    allowed = (1 - confidence) / 2 * 2.0**count
    rank, below = -1, 1
    while below <= allowed:
        rank += 1
        below += math.comb(count, rank + 1)
    return max(rank, 0)
