"""How likely is this by chance? An exact rank test, a standard deviation that leans on a prior, and t quantiles.

The unit of replication is the process: every number here is one process's median.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: How many degrees of freedom the prior knowledge of a metric's noise is worth.
PRIOR_DEGREES = 4


def rank_p_value(baseline: Sequence[float], current: Sequence[float]) -> float:
    """Give the exact one-sided p-value that ``current`` is larger, by the Mann-Whitney test.

    Ties get mid-ranks, and the p-value comes from the permutation distribution of the very mid-ranks that were
    observed, so it is exact with ties too.

    Args:
        baseline: one value a process, at least one.
        current: one value a process, at least one.

    Returns:
        The share of all ways to call ``len(current)`` of the pooled values "current" whose rank sum is at least the
        observed one.
    """
    pooled = sorted((*baseline, *current))
    ranks = _doubled_ranks(pooled)
    rank_of = dict(zip(pooled, ranks, strict=True))
    # The rank sum of the smaller side says the same, and its distribution is much cheaper.
    if len(current) <= len(baseline):
        observed, side = sum(rank_of[value] for value in current), len(current)
        extreme = sum(ways for total, ways in _rank_sums(ranks, side).items() if total >= observed)
    else:
        observed, side = sum(rank_of[value] for value in baseline), len(baseline)
        extreme = sum(ways for total, ways in _rank_sums(ranks, side).items() if total <= observed)
    return extreme / math.comb(len(pooled), side)


def smallest_p_value(baseline: int, current: int) -> float:
    """Give the p-value of complete separation, the smallest that so many processes can attain."""
    return 1 / math.comb(baseline + current, current)


def _doubled_ranks(ordered: Sequence[float]) -> tuple[int, ...]:
    """Give twice the mid-rank of each value, a whole number also where values are tied."""
    ranks: list[int] = []
    while len(ranks) < len(ordered):
        first = len(ranks)
        last = first
        while last < len(ordered) and ordered[last] == ordered[first]:
            last += 1
        ranks += [first + 1 + last] * (last - first)
    return tuple(ranks)


@functools.lru_cache(maxsize=1024)
def _rank_sums(ranks: tuple[int, ...], side: int) -> Counter[int]:
    """Count, for each total, the ways to choose ``side`` of the ranks with that total (dynamic programming)."""
    chosen: list[Counter[int]] = [Counter({0: 1}), *(Counter() for _ in range(side))]
    for rank in ranks:
        for size in range(side, 0, -1):
            for total, ways in chosen[size - 1].items():
                chosen[size][total + rank] += ways
    return chosen[side]


def moderated_deviation(
    baseline: NDArray[np.float64], current: NDArray[np.float64], prior: float | NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the standard deviation between processes within both groups, and its degrees of freedom.

    The pooled variance is averaged with the prior's, weighted by degrees of freedom, so that a few processes that
    happen to agree do not make a small difference look certain. The prior only ever raises the result: where the
    processes scatter more than it says, they are believed.

    Args:
        baseline: [..., n].
        current: [..., m].
        prior: [...], the deviation expected beforehand; 0 means that nothing is, and there is no averaging.

    Returns:
        deviation, [...], and degrees of freedom, in the shape of the prior.
    """
    import numpy as np

    measured = baseline.shape[-1] + current.shape[-1] - 2
    squares = _squares(baseline) + _squares(current)
    known = np.where(np.asarray(prior) > 0, PRIOR_DEGREES, 0)
    degrees = np.maximum(measured + known, 1)
    averaged = (squares + known * np.square(prior)) / degrees
    return np.sqrt(np.maximum(averaged, squares / max(measured, 1))), degrees


def _squares(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum the squared deviations from the mean, exactly 0 for values that are all equal."""
    centred = values - values[..., :1]
    centred = centred - centred.mean(axis=-1, keepdims=True)
    squares: NDArray[np.float64] = (centred * centred).sum(axis=-1)
    return squares


def median_error(processes: int) -> float:
    """Give the standard error of a median of normal values, as a share of their standard deviation.

    Exact for one value and for many; in between 1 % off for odd numbers and at most 11 % too large for even ones.
    """
    return math.sqrt(math.pi / 2 / (processes + math.pi / 2 - 1))


def t_quantile(degrees: NDArray[np.float64], tail: float) -> NDArray[np.float64]:
    """Give the value that Student's t exceeds with probability ``tail``, for each number of degrees of freedom."""
    from scipy.special import stdtrit

    quantile: NDArray[np.float64] = -stdtrit(degrees, tail)
    return quantile
