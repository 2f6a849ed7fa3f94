"""What is new in the history? Change points, drifts and noise that appeared in the last nights.

Heavy: imports numpy, ruptures and SciPy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from perfgate.history.changes import Change, change_points
from perfgate.history.store import SeriesName, StoredPoint, StoredRun
from perfgate.history.trends import drift, noisier
from perfgate.model import Verdict

Kind = Literal["change", "drift", "noisier"]

#: Nights beyond these are too long ago to say anything about tonight.
WINDOW = 365
_DAY_S = 86_400.0
# Two analyses may date one change a few nights apart.
_NEAR = 5


@dataclass(frozen=True)
class Finding:
    """One thing that appeared in a series.

    Args:
        kind: "change", "drift" or "noisier".
        name: which series.
        before: level, or of "noisier" the standard deviation.
        after: the same, since.
        since: the first night of it.
        last_good: the night before; None at the beginning of the series.
    """

    kind: Kind
    name: SeriesName
    before: float
    after: float
    since: StoredPoint
    last_good: StoredPoint | None

    @property
    def worse(self) -> bool:
        """Whether it is bad news."""
        return self.kind == "noisier" or (self.after > self.before) == (self.name.better == "lower")

    @property
    def share(self) -> float | None:
        """The change as a share of what was before; None when that was 0."""
        return (self.after - self.before) / abs(self.before) if self.before else None


@dataclass(frozen=True)
class Report:
    """What appeared, and in how many series was looked.

    Args:
        findings: worse before better, the largest first.
        series: how many series have points in these nights.
        until_s: when the last run began, in seconds since the epoch; 0 when there is none.
        future: runs that say that they began after now; no finding is of them.
    """

    findings: tuple[Finding, ...]
    series: int
    until_s: float
    future: tuple[StoredRun, ...] = ()


def judged(points: Sequence[StoredPoint], until_s: float) -> list[StoredPoint]:
    """Give the points that rules apply to: the last year's, without nights of a throttled machine.

    Args:
        points: of a series, the oldest first.
        until_s: later points are left out: the last run's time, or :func:`perfgate.history.entry.latest_s`.
    """
    known = [point for point in points if point.run.started_s <= until_s]
    return [point for point in known[-WINDOW:] if point.verdict != Verdict.THROTTLED]


def report(
    everything: Iterable[tuple[SeriesName, Sequence[StoredPoint]]],
    until_s: float,
    nights: int = 1,
    future: Sequence[StoredRun] = (),
) -> Report:
    """Find what the last nights have brought to light: it is found now, and was not found without them.

    Args:
        everything: all series with their points, the oldest first.
        until_s: when the last run began; later ones are left out, and a series without a point in the nights before
            has no news.
        nights: how many nights count as new.
        future: the runs that are left out, for the reader.
    """
    # A nightly run may begin some hours early or late.
    since_s = until_s - (nights - 0.5) * _DAY_S
    found: list[Finding] = []
    series = 0
    for name, points in everything:
        kept = judged(points, until_s)
        new = sum(point.run.started_s > since_s for point in kept)
        if new:
            series += 1
            found += _news(name, kept, new)
    found.sort(key=lambda each: (not each.worse, -_size(each)))
    return Report(tuple(found), series, until_s, tuple(future))


def _size(finding: Finding) -> float:
    return abs(finding.share) if finding.share is not None else float("inf")


def _news(name: SeriesName, points: Sequence[StoredPoint], new: int) -> list[Finding]:
    now = findings(name, points)
    if not now:
        return []
    before = findings(name, points[:-new])
    return [
        each
        for each in now
        if not any(each.kind == old.kind and (each.kind != "change" or _same(points, each, old)) for old in before)
    ]


def _same(points: Sequence[StoredPoint], one: Finding, other: Finding) -> bool:
    places = [next(i for i, point in enumerate(points) if point is each.since) for each in (one, other)]
    up = [each.after > each.before for each in (one, other)]
    return abs(places[0] - places[1]) <= _NEAR and up[0] == up[1]


def findings(name: SeriesName, points: Sequence[StoredPoint]) -> list[Finding]:
    """Give everything that the rules find in a series, whenever it appeared.

    Args:
        name: which series.
        points: what :func:`judged` gave.
    """
    values = np.array([point.value for point in points])
    # Most series of exact figures are one value.
    if len(values) == 0 or float(np.ptp(values)) == 0:
        return []
    changes = change_points(values)
    found = [_finding("change", name, points, each.index, each.before, each.after) for each in changes]
    slow = drift(values, changes, points[-1].allowed)
    if slow is not None:
        found.append(_finding("drift", name, points, slow.index, slow.before, slow.after))
    spread = noisier(values, changes)
    if spread is not None:
        found.append(_finding("noisier", name, points, spread.index, spread.before, spread.after))
    return found


def changes_of(points: Sequence[StoredPoint]) -> list[Change]:
    """Give the change points of what :func:`judged` gave."""
    return change_points([point.value for point in points])


def _finding(
    kind: Kind, name: SeriesName, points: Sequence[StoredPoint], index: int, before: float, after: float
) -> Finding:
    return Finding(kind, name, before, after, points[index], points[index - 1] if index else None)
