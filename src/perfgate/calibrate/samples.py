"""What of the samples of one process is kept? Enough for the rules of other tools, and no more."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from perfgate.baseline.format import SIGNIFICANT_DIGITS

#: Samples that are kept of a process, evenly over its time.
KEPT = 16
#: Kept samples are whole numbers of this share of the median.
RESOLUTION = 1e-5


@dataclass(frozen=True)
class Samples:
    """The samples of one case in one process.

    Attributes:
        count: how many there were.
        mean: of all of them; so are the other statistics.
        least: the smallest.
        q1: lower quartile.
        q3: upper quartile.
        deviation: standard deviation between the samples.
        some: up to KEPT of them.
    """

    count: int
    mean: float
    least: float
    q1: float
    q3: float
    deviation: float
    some: tuple[float, ...]


def summary(seconds: Sequence[float]) -> Samples | None:
    """Sum samples up; None when there are none."""
    if not seconds:
        return None
    count = len(seconds)
    q1, q3 = min(seconds), max(seconds)
    if count > 1:
        q1, _, q3 = statistics.quantiles(seconds, n=4, method="inclusive")
    kept = min(count, KEPT)
    return Samples(
        count=count,
        mean=statistics.fmean(seconds),
        least=min(seconds),
        q1=q1,
        q3=q3,
        deviation=statistics.stdev(seconds) if count > 1 else 0.0,
        some=tuple(seconds[(2 * number + 1) * count // (2 * kept)] for number in range(kept)),
    )


def to_row(samples: Samples | None, median: float) -> list[Any]:
    """Give the two lists that stand for samples in a file: statistics, and samples relative to the median."""
    if samples is None:
        return [[], []]
    figures = (samples.mean, samples.least, samples.q1, samples.q3, samples.deviation)
    unit = median * RESOLUTION
    some = [round((each - median) / unit) for each in samples.some] if unit else []
    return [[samples.count, *map(rounded, figures)], some]


def from_row(figures: Sequence[float], some: Sequence[int], median: float) -> Samples | None:
    """Turn what :func:`to_row` gave back into samples."""
    if not figures:
        return None
    count, mean, least, q1, q3, deviation = figures
    values = tuple(median * (1 + RESOLUTION * each) for each in some)
    return Samples(int(count), mean, least, q1, q3, deviation, values)


def to_json(samples: Samples | None) -> dict[str, Any] | None:
    """Give the values that travel from a fresh process."""
    return None if samples is None else {**vars(samples), "some": list(samples.some)}


def from_json(data: Mapping[str, Any] | None) -> Samples | None:
    """Turn what :func:`to_json` gave back into samples."""
    return None if data is None else Samples(**{**data, "some": tuple(data["some"])})


def rounded(value: float) -> float:
    """Round a figure to the digits that files keep; bytes stay whole."""
    return int(value) if float(value).is_integer() else float(f"{value:.{SIGNIFICANT_DIGITS}g}")
