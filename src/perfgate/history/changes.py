"""When did a figure change its level for good? The segments come from ruptures, the decision from rules of our own.

Heavy: imports numpy and ruptures. The rules, in units of the case's own noise:

- a value far from its neighbours (3 times the noise around the median of 7) counts only as far as that, and one twice
  as far, and far beyond the level that it would begin, not at all: a single spike is not a change;
- ruptures (PELT, squared error around the mean) proposes segments of at least three nights, and the last three nights
  are looked at in any case;
- a proposal is dropped, the weakest first, unless the two levels differ by 3.2 standard errors (4.7 where five nights
  or more are known; of nights that resemble their neighbours only what is new counts), the first three nights lie on
  the new side, the nights before have seldom been there for three nights (noise with two modes), two levels explain the
  nights better than a straight line (a slow drift), and the change is no smaller than ``least``.

A step that is sure is then dated: by the division that explains the nights best, and by the range of all that explain
them nearly as well.

So a step is known with its third night: two nights after it happened. Measured on simulated noise of nights 40 to 140,
normal and independent from night to night: a step of three times the noise is reported by then in 95 of 100 series with
80 nights or more before it (94 with 60, 83 with 20), at 1.3 to 1.6 false alarms in 1,000 nights of one series. More is
hardly to be had: the best test of these three nights finds 97 at 2 false alarms. With heavier tails (Student's t, 4
degrees of freedom) it is 96 at 2.1, with neighbouring nights correlated by a half 80 at 5.5.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: A segment has at least so many nights, and a first one at least so many.
SHORTEST, FIRST = 3, 5
#: Changes below this share of the level are nobody's concern, however sure they are.
LEAST = 0.001
#: Standard errors that are wanted between two levels, by the nights of the shorter: a true step grows surer with each.
_ERRORS = {3: 3.2, 4: 4.0}
_ERRORS_LATER = 4.7
# Values are cut to so many noises around the median of so many nights.
_NEAR, _FAR = 7, 3.0
# Cost of one more segment in squared noises, below what a step that is accepted saves.
_PENALTY = 10.0
# Levels are compared over at most so many nights on either side: the noise of long ago says little.
_WINDOW = 90
# The noise of all nights weighs as so many nights when a segment's own is estimated.
_PRIOR = 8
# A segment shorter than this may be a mode that the nights before have visited: the part of the way that counts as
# there, and the share of their medians of three that may have been.
_SHORT, _THERE, _VISITS = 12, 0.9, 0.04
# A cut among so many nights before the last three may belong to those.
_RECENT = 6
# All of the first nights lie at least so many noises on the new side, and their median so many; of a large step all but
# so many noises, and a share of it.
_SIDE, _SIDE_MEDIAN = 0.25, 1.2
_SIDE_FAR, _SIDE_SHARE = 2.5, 0.6
# So many squared noises better than a straight line must two levels explain the nights; of a few nights so many.
_LINE, _LINE_SHORT = 8.0, 3.0
# The most that neighbouring nights are taken to resemble each other: beyond, it is a drift.
_MOST_ALIKE = 0.9
# A night may have been the first when two levels that part there explain the nights so nearly as well as the best ones:
# half the difference of their squares, in variances (the logarithm of the likelihoods' ratio).
_NEARLY = 3.2
# A cut is dated so many nights around where it was found.
_DATED = 8
# Nights that may have been the first lie no further than this from the next one.
_GAP = 3

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Change:
    """A step from one level to another.

    Args:
        index: the first value at the new level; the last at the old one is the value before.
        before: the old level, a median.
        after: the new level, a median.
        noise: standard deviation of one value around its level.
        earliest: the first value that is nearly as likely as ``index`` to be the first at the new level.
        latest: the last such value.
    """

    index: int
    before: float
    after: float
    noise: float
    earliest: int
    latest: int

    @property
    def share(self) -> float | None:
        """The change as a share of the old level; None when that is 0."""
        return (self.after - self.before) / abs(self.before) if self.before else None


def change_points(values: Sequence[float] | Values, *, least: float = LEAST) -> list[Change]:
    """Find the lasting changes of a figure's level, in the order of time.

    Args:
        values: one finite value a night, the oldest first.
        least: the smallest share of the level that counts as a change.
    """
    raw = np.asarray(values, dtype=np.float64)
    if len(raw) < FIRST + SHORTEST:
        return []
    middle = float(np.median(raw))
    noise = max(noise_of(raw), least * abs(middle) / 4)
    if noise == 0:
        # Not even a level: half of the values are 0, and repeat.
        noise = float(np.max(np.abs(raw - middle))) / 10
    if noise == 0 or float(np.ptp(raw)) < noise:
        return []
    scaled = (raw - middle) / noise
    kept = _without_spikes(scaled)
    cuts = [cut for cut in _proposed(kept) if cut >= FIRST]
    while cuts:
        best = [max(_nearby(scaled, kept, *place)) for place in _places(cuts, len(raw))]
        # The surest place of a cut, a night or two beside the proposed one.
        dates = [_dated(kept, *place) for place in _places([cut for _, cut in best], len(raw))]
        sure = [each for each, _ in best]
        changes = [
            _change(raw, noise, *place, earliest, latest)
            for place, (_, earliest, latest) in zip(
                _places([date for date, _, _ in dates], len(raw)), dates, strict=True
            )
        ]
        for index, change in enumerate(changes):
            if abs(change.after - change.before) < least * abs(change.before):
                sure[index] = min(sure[index], 0.0)
        weakest = min(range(len(cuts)), key=sure.__getitem__)
        if sure[weakest] >= 1:
            return changes
        del cuts[weakest]
    return []


def noise_of(values: Values) -> float:
    """Estimate the standard deviation of one night: from the differences of neighbours, which a step hardly touches.

    The 80th percentile of their sizes: of a tenth of spikes nothing is seen, and of two modes all.
    """
    sizes = np.abs(np.diff(values))
    return float(np.quantile(sizes, 0.8)) / (1.2816 * math.sqrt(2)) if len(sizes) else 0.0


def _without_spikes(scaled: Values) -> Values:
    """Cut what is far from the median of its neighbours, fewer of them at the ends."""
    half = _NEAR // 2
    low = np.median(np.lib.stride_tricks.sliding_window_view(scaled, _NEAR), axis=1)
    low = np.concatenate([np.empty(half), low, np.empty(half)])
    high = low.copy()
    for place in [*range(half), *range(len(scaled) - half, len(scaled))]:
        near = sorted(scaled[max(0, place - half) : place + half + 1])
        # Of an even number both middle values: a step that divides them is no spike.
        low[place], high[place] = near[(len(near) - 1) // 2], near[len(near) // 2]
    return np.clip(scaled, low - _FAR, high + _FAR)


def _proposed(kept: Values) -> list[int]:
    """Give where ruptures cuts; the last three nights are looked at in any case."""
    import ruptures

    search = ruptures.KernelCPD(kernel="linear", min_size=SHORTEST).fit(kept.reshape(-1, 1))
    cuts = [int(cut) for cut in search.predict(pen=_PENALTY)[:-1]]
    last = len(kept) - SHORTEST
    return cuts if cuts and cuts[-1] > last - _RECENT else [*cuts, last]


def _places(cuts: list[int], length: int) -> list[tuple[int, int, int]]:
    """Give for each cut where the segments before and after it begin and end."""
    edges = [0, *cuts, length]
    return list(zip(edges, cuts, edges[2:], strict=False))


def _nearby(scaled: Values, kept: Values, start: int, cut: int, end: int) -> Iterator[tuple[float, int]]:
    """Give how sure a cut is, and how sure it were a night or two beside, or with the last three nights alone."""
    last = end - SHORTEST
    beyond = last if end == len(kept) and last - cut < _RECENT else cut + 2
    for place in range(max(start + SHORTEST, cut - 2), min(last, beyond) + 1):
        yield _sureness(scaled, kept, start, place, end), place


def _dated(kept: Values, start: int, cut: int, end: int) -> tuple[int, int, int]:
    """Date a step: the likeliest first night, and the earliest and the latest that are nearly as likely.

    The rules ask more of some places than of others; a date is the place where two levels explain the nights best.
    """
    # Half of the way to the neighbours at most: two dates never cross.
    allowed = range(
        max(cut - _DATED, cut - (cut - start) // 2, FIRST), min(cut + _DATED, cut + (end - cut - 1) // 2) + 1
    )
    start, end = max(start, cut - _WINDOW), min(end, cut + _WINDOW)
    nights = kept[start:end] - kept[start:cut].mean()
    size = len(nights)
    # Two levels explain the more, the further their means lie apart.
    number = np.arange(1, size)
    left = np.cumsum(nights)[:-1]
    right = nights.sum() - left
    explained = left**2 / number + right**2 / (size - number)
    squares = float((nights**2).sum()) - explained
    here = np.arange(start + 1, end)
    able = (here == cut) | np.isin(here, allowed) & (here <= end - SHORTEST)
    best = int(np.argmin(np.where(able, squares, np.inf)))
    alike = _resemblance(kept[start : start + 1 + best])
    variance = (float(squares[best]) + _PRIOR) / (size - 2 + _PRIOR)
    behind = (squares - squares[able].min()) / (2 * variance)
    near = np.flatnonzero(behind <= _NEARLY * (1 + alike) / (1 - alike))
    # What lies apart from the others is a spike.
    parts = np.split(near, np.flatnonzero(np.diff(near) > _GAP) + 1)
    part = next(part for part in parts if best in part)
    return int(here[best]), int(here[part[0]]), int(here[part[-1]])


def _change(raw: Values, noise: float, start: int, cut: int, end: int, earliest: int, latest: int) -> Change:
    left, right = raw[max(start, cut - _WINDOW) : cut], raw[cut : min(end, cut + _WINDOW)]
    return Change(cut, float(np.median(left)), float(np.median(right)), noise, earliest, latest)


def _sureness(scaled: Values, kept: Values, start: int, cut: int, end: int) -> float:
    """Give by how many standard errors two segments differ; 0 or less when a rule says that it is no step."""
    left, right = kept[max(start, cut - _WINDOW) : cut], kept[cut : min(end, cut + _WINDOW)]
    spikes = _spikes(scaled[cut : cut + len(right)], right, left.mean())
    if len(right) - spikes.sum() < SHORTEST:
        return -1.0
    right = np.where(spikes, np.median(right), right)
    step = float(right.mean() - left.mean())
    way = math.copysign(1.0, step)
    squares = float(((left - left.mean()) ** 2).sum() + ((right - right.mean()) ** 2).sum())
    nights = len(left) + len(right) - 2
    variance = max((squares + _PRIOR) / (nights + _PRIOR), squares / nights)
    wanted = _ERRORS.get(min(len(left), len(right)), _ERRORS_LATER)
    alike = _resemblance(left)
    sure = _normal(max(way * _errors(left, right, alike), 0.0) / math.sqrt(variance), nights) / wanted
    first = sorted((scaled[cut : cut + SHORTEST] - left.mean()) * way)
    # A large step leaves no doubt which of the first nights belong to it.
    side = max(_SIDE, min(abs(step) - _SIDE_FAR, _SIDE_SHARE * abs(step)))
    if first[0] < side or first[1] < _SIDE_MEDIAN:
        return -1 / (1 + sure)
    if len(right) < _SHORT and _visited(scaled[start:cut], left.mean() + _THERE * step, way) > _VISITS:
        return -1 / (1 + sure)
    both = np.concatenate([left, right])
    if _around_a_line(both) < squares + (_LINE_SHORT if len(right) < _SHORT else _LINE) * variance:
        return -1 / (1 + sure)
    return sure


def _spikes(plain: Values, cut: Values, before: float) -> npt.NDArray[np.bool_]:
    """Tell which nights of a new level are spikes: cut by as much as is left, and far beyond the level itself."""
    level = float(np.median(plain))
    return (np.abs(plain - cut) > _FAR) & (np.abs(plain - level) > 2 * abs(level - before))


def _resemblance(level: Values) -> float:
    """Give the correlation of neighbouring nights, less its standard error: the part that is hardly chance."""
    rest = level - level.mean()
    squares = float((rest**2).sum())
    if squares == 0:
        return 0.0
    return min(max(float((rest[1:] * rest[:-1]).sum()) / squares - 1 / math.sqrt(len(rest)), 0.0), _MOST_ALIKE)


def _errors(left: Values, right: Values, alike: float) -> float:
    """Give the step between two levels in standard errors of nights that deviate by 1: generalised least squares.

    Of a night that resembles the one before only what is new counts (Prais and Winsten 1954): a step shows whole in its
    first night, and each later one shows little that its neighbour has not.
    """
    night = np.arange(len(left) + len(right))
    rows = np.stack([np.concatenate([left, right]), np.ones(len(night)), night >= len(left)])
    rows[:, 1:] = (rows[:, 1:] - alike * rows[:, :-1]) / math.sqrt(1 - alike**2)
    values, levels, steps = rows
    both = float(levels @ steps)
    squares = float(levels @ levels) * float(steps @ steps) - both**2
    step = float(levels @ levels) * float(steps @ values) - both * float(levels @ values)
    return step / math.sqrt(float(levels @ levels) * squares)


def _normal(errors: float, freedom: int) -> float:
    """Turn Student's t into the normal deviate that is as rare (Wallace 1959): few nights know their noise poorly."""
    return math.sqrt(freedom * math.log1p(errors**2 / freedom)) * (8 * freedom + 1) / (8 * freedom + 3)


def _visited(before: Values, there: float, way: float) -> float:
    """Give the share of medians of three nights that were as far as the new level."""
    if len(before) < SHORTEST:
        return 0.0
    medians = np.median(np.lib.stride_tricks.sliding_window_view(before, SHORTEST), axis=1)
    return float(np.mean((medians - there) * way > 0))


def _around_a_line(values: Values) -> float:
    """Give the sum of squares around the straight line of best fit."""
    times = np.arange(len(values)) - (len(values) - 1) / 2
    centred = values - values.mean()
    slope = float((times * centred).sum() / (times**2).sum())
    return float((centred**2).sum() - slope**2 * (times**2).sum())
