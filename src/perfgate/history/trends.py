"""Which figures drift without a step, and which have become noisier? Rules for a series of nights.

Heavy: imports numpy and SciPy.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perfgate.history.changes import Change, noise_of

#: A drift is judged over at least so many nights; its ends are medians of so many.
DRIFT_NIGHTS, END_NIGHTS = 21, 7
#: Where no limit is known, a drift of this share of the level counts.
DRIFT_SHARE = 0.05
#: The nights that may be noisier, and those before that they are compared with.
RECENT_NIGHTS, BEFORE_NIGHTS = 14, 90
_LEAST_BEFORE = 21
#: How much noisier, and how sure: the spread doubled, and 1 in 100,000 by chance.
NOISIER, SURE = 2.0, 1e-5
# Standard errors between the ends of a drift.
_ERRORS = 5.0
# Values count only as far as so many spreads from the middle: a spike is not noise.
_FAR = 4.0
# A drift is over when this share of the limit is left of it.
_BACK = 0.5
# A night may be the one from which on it drifted when that explains the nights so nearly as well as the best one.
_NEARLY = 3.2

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Drift:
    """A slow change, of which no night's step was beyond the limit.

    Args:
        index: the first night from which on it may have drifted.
        before: the level at its beginning.
        after: the level now.
        allowed: the change that the limit allows from one night to the next.
        told: the level when it was first beyond the limit, or had last grown by as much again.
    """

    index: int
    before: float
    after: float
    allowed: float
    told: float


@dataclass(frozen=True)
class Noisier:
    """A spread that has grown.

    Args:
        index: the first of the nights that are noisier.
        before: standard deviation before.
        after: standard deviation since.
    """

    index: int
    before: float
    after: float


def drift(values: Sequence[float] | Values, changes: Sequence[Change], allowed: float | None) -> Drift | None:
    """Find a slow change since the last step that was beyond the limit.

    On some night the medians of the first and of the last 7 nights differed by more than the limit allows, and by 5
    standard errors; every single change between them was inside the limit; and it has not gone back since.

    Args:
        values: one finite value a night, the oldest first.
        changes: the steps of these values.
        allowed: the change that the limit allows; None takes 5 % of the level.
    """
    raw = np.asarray(values, dtype=np.float64)

    def limit(level: float) -> float:
        return DRIFT_SHARE * abs(level) if allowed is None else allowed

    start = max((each.index for each in changes if abs(each.after - each.before) > limit(each.before)), default=0)
    nights = raw[start:]
    if len(nights) < DRIFT_NIGHTS:
        return None
    levels = np.median(np.lib.stride_tricks.sliding_window_view(nights, END_NIGHTS), axis=1)
    before, after = float(levels[0]), float(levels[-1])
    told = _told(nights, levels, limit(before))
    if told is None:
        return None
    return Drift(start + _first(nights), before, after, limit(before), told)


def _told(nights: Values, levels: Values, limit: float) -> float | None:
    """Give the level that was last worth telling, night after night: beyond the limit, and beyond it once more."""
    before = float(levels[0])
    if float(np.abs(levels - before).max()) <= limit:
        return None
    told = None
    for end in range(DRIFT_NIGHTS, len(nights) + 1):
        change = float(levels[end - END_NIGHTS]) - before
        if told is not None and change * math.copysign(1, told) <= _BACK * limit:
            told = None
        more = change if told is None else math.copysign(1, told) * (change - told)
        if (abs(more) if told is None else more) > limit and _is_slow(nights[:end], levels, change, limit):
            told = change
    return None if told is None else before + told


def _is_slow(nights: Values, levels: Values, change: float, limit: float) -> bool:
    """Tell whether a change is more than noise, and no step."""
    # A median's variance is pi / 2 of a mean's.
    error = noise_of(nights) * math.sqrt(math.pi / END_NIGHTS)
    # A step that the rules for steps have missed, or not been sure of, is no drift: levels of neighbouring weeks.
    levels = levels[: len(nights) - END_NIGHTS + 1]
    steps = np.abs(levels[END_NIGHTS:] - levels[:-END_NIGHTS])
    return abs(change) > _ERRORS * error and float(steps.max()) <= max(limit, 0.8 * abs(change))


def _first(nights: Values) -> int:
    """Give the first night from which on the figure may have drifted: a level, and from there on a straight line."""
    night = np.arange(len(nights))
    starts = night[: len(nights) - END_NIGHTS]
    lines = np.maximum(night - starts[:, None], 0.0)
    lines -= lines.mean(axis=1, keepdims=True)
    centred = nights - nights.mean()
    squares = float((centred**2).sum()) - (lines @ centred) ** 2 / (lines**2).sum(axis=1)
    variance = float(squares.min()) / (len(nights) - 3)
    return int(np.flatnonzero(squares - squares.min() <= 2 * _NEARLY * variance)[0])


def noisier(values: Sequence[float] | Values, changes: Sequence[Change]) -> Noisier | None:
    """Find out whether the last 14 nights spread more than up to 90 before them.

    Levels between steps are taken out first. The spread must have doubled, robustly estimated (1.48 times the median
    distance from the middle), and the test of Brown and Forsythe must give less than 1 in 100,000.

    Args:
        values: one finite value a night, the oldest first.
        changes: the steps of these values.
    """
    raw = np.asarray(values, dtype=np.float64)
    if len(raw) < RECENT_NIGHTS + _LEAST_BEFORE:
        return None
    rest = raw.copy()
    edges = [0, *(change.index for change in changes), len(raw)]
    for start, end in itertools.pairwise(edges):
        rest[start:end] -= np.median(raw[start:end])
    recent, before = rest[-RECENT_NIGHTS:], rest[-RECENT_NIGHTS - BEFORE_NIGHTS : -RECENT_NIGHTS]
    spreads = _spread(before), _spread(recent)
    # A figure that repeats exactly has no spread; a thousandth of the level is none either.
    least = 1e-3 * abs(float(np.median(raw)))
    if spreads[1] < NOISIER * max(spreads[0], least / NOISIER):
        return None
    from scipy import stats

    cut = [np.clip(part, -_FAR * spread, _FAR * spread) for part, spread in zip((before, recent), spreads, strict=True)]
    if spreads[0] > 0 and float(stats.levene(*cut, center="median").pvalue) > SURE:
        return None
    return Noisier(len(raw) - RECENT_NIGHTS, *spreads)


def _spread(rest: Values) -> float:
    return 1.4826 * float(np.median(np.abs(rest - np.median(rest))))
