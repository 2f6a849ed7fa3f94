"""What would other tools have said of the same samples? Their rules, each on what it looks at.

All answer whether the current side is called slower. Runs are single processes, as these tools run, but for asv's.
Samples are those that a process of ours took, up to 16 of them spread over its time. On a GPU each is a replay of a
CUDA graph, the mean of many calls, so they scatter less than what these tools take themselves: better for a rule that
compares figures with a fixed limit, worse for one that trusts the scatter inside a process.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from perfgate.calibrate.pool import Row

Rule = Callable[[Sequence[Row], Sequence[Row]], bool]

FLAT = 0.05


@dataclass(frozen=True)
class Rival:
    """A rule, and how many processes it takes of each side, alternating where there are several."""

    slower: Rule
    processes: int = 1


def mean_5(before: Sequence[Row], now: Sequence[Row]) -> bool:
    """pytest-benchmark 5.3.1, ``--benchmark-compare-fail=mean:5%`` (``PercentageRegressionCheck``)."""
    old, new = before[0].samples, now[0].samples
    return bool(old and new and new.mean / old.mean * 100 - 100 > 5)


def min_5(before: Sequence[Row], now: Sequence[Row]) -> bool:
    """pytest-benchmark 5.3.1, ``--benchmark-compare-fail=min:5%`` (``PercentageRegressionCheck``)."""
    old, new = before[0].samples, now[0].samples
    return bool(old and new and new.least / old.least * 100 - 100 > 5)


def u_test(before: Sequence[Row], now: Sequence[Row]) -> bool:
    """google/benchmark 1.9, ``tools/compare.py``: two-sided Mann-Whitney U at 0.05 on the repetitions of two runs.

    It colours a p-value and fails nothing; counted here is a difference towards slower.
    """
    old, new = _some(before), _some(now)
    if min(len(old), len(new)) < 2:
        return False
    return _median(new) > _median(old) and _mann_whitney(old, new) < 0.05


def asv(before: Sequence[Row], now: Sequence[Row]) -> bool:
    """The rule of asv 0.6, ``asv continuous``: the ratio beyond 1.1 and ``is_different`` (Mann-Whitney U, p < 0.002).

    Its samples come from two processes a side, the order of the sides changing (``rounds=2``, ``--interleave-rounds``).
    Of samples too few for that p (5 a side) asv asks whether 99 % intervals overlap; here they count as alike.
    """
    old, new = _some(before), _some(now)
    enough = old and new and 1 / math.comb(len(old) + len(new), min(len(old), len(new))) < 0.002
    return bool(enough) and _median(new) > _median(old) * 1.1 and _asv_p(old, new) < 0.002


def nvbench(before: Sequence[Row], now: Sequence[Row]) -> bool:
    """nvbench, ``nvbench_compare.py`` before its robust rule.

    It fails where the means differ by more than ``min_noise``, the smaller of both relative standard deviations of the
    samples; where there is no noise it does not know. Counted here is a difference towards slower.
    """
    old, new = before[0].samples, now[0].samples
    if old is None or new is None:
        return False
    noises = [each.deviation / each.mean for each in (old, new) if each.deviation > 0]
    return bool(noises) and (new.mean - old.mean) / old.mean > min(noises)


def flat(before: Sequence[Row], now: Sequence[Row]) -> bool:
    """A flat 5 % on the medians of two runs, as many a home-made gate has it."""
    return now[0].value / before[0].value - 1 > FLAT


#: By the name that reports show.
RIVALS: Mapping[str, Rival] = {
    "pytest-benchmark mean:5%": Rival(mean_5),
    "pytest-benchmark min:5%": Rival(min_5),
    "google/benchmark U test 0.05": Rival(u_test),
    "asv 1.1x and p < 0.002": Rival(asv, 2),
    "nvbench noise (legacy)": Rival(nvbench),
    "flat 5 % of medians": Rival(flat),
}


def sides(order: Sequence[int], rival: Rival) -> list[tuple[list[int], list[int]]]:
    """Give the pairs of sides that a rule compares, from processes in the order of time.

    One process a side: each process with each later one. Two: of each stretch of four the outer with the inner ones, as
    asv turns the order of its commits around from round to round.
    """
    if rival.processes == 1:
        return [([first], [second]) for place, first in enumerate(order) for second in order[place + 1 :]]
    stretches = [order[start : start + 4] for start in range(len(order) - 3)]
    return [([first, last], [second, third]) for first, second, third, last in stretches]


def _some(rows: Sequence[Row]) -> list[float]:
    return [value for row in rows if row.samples is not None for value in row.samples.some]


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)


def _asv_p(old: Sequence[float], new: Sequence[float]) -> float:
    """Give asv's two-sided p-value (``mann_whitney_u``): ties count against a difference.

    Exact up to 20 samples a side; then the normal approximation, not corrected for continuity.
    """
    n, m = len(old), len(new)
    above = sum(x > y for x in old for y in new)
    equal = sum(x == y for x in old for y in new)
    # Of what the ties allow, the nearest to the middle.
    middle = n * m / 2
    nearest = min(math.floor(middle), above + equal) if above <= middle else above
    u = min(nearest, n * m - nearest)
    if max(n, m) > 20:
        return math.erfc((middle - u) / math.sqrt(n * m * (n + m + 1) / 12) / math.sqrt(2))
    return min(2 * _ways(n, m, u) / math.comb(n + m, n), 1.0)


def _ways(n: int, m: int, u: int) -> int:
    """Count the orders of two samples in which at most ``u`` pairs are inverted."""
    # Coefficients of the Gaussian binomial up to u: multiply by 1 - q^(m + i), divide by 1 - q^i.
    counts = [1] + [0] * u
    for i in range(1, n + 1):
        for place in range(u, m + i - 1, -1):
            counts[place] -= counts[place - m - i]
        for place in range(i, u + 1):
            counts[place] += counts[place - i]
    return sum(counts)


def _mann_whitney(old: Sequence[float], new: Sequence[float]) -> float:
    """Give the two-sided p-value as SciPy does, which is what google/benchmark asks: the normal approximation.

    Of 8 samples a side or fewer, of which no two are equal, the exact one.
    """
    if min(len(old), len(new)) <= 8 and len({*old, *new}) == len(old) + len(new):
        above = sum(x > y for x in old for y in new)
        rarer = min(above, len(old) * len(new) - above)
        return min(2 * _ways(len(old), len(new), rarer) / math.comb(len(old) + len(new), len(old)), 1.0)
    ranks: dict[float, float] = {}
    pooled = sorted((*old, *new))
    ties = 0.0
    first = 0
    while first < len(pooled):
        last = first
        while last < len(pooled) and pooled[last] == pooled[first]:
            last += 1
        ranks[pooled[first]] = (first + 1 + last) / 2
        ties += (last - first) ** 3 - (last - first)
        first = last
    n, m = len(old), len(new)
    total = n + m
    u = sum(ranks[value] for value in new) - m * (m + 1) / 2
    variance = n * m / 12 * (total + 1 - ties / (total * (total - 1)))
    if variance <= 0:
        return 1.0
    distance = max(abs(u - n * m / 2) - 0.5, 0.0)
    return math.erfc(distance / math.sqrt(variance) / math.sqrt(2))
