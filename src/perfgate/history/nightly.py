"""What is new in the history? Change points, drifts and noise that appeared in the last nights, and corrections.

Heavy: imports numpy, ruptures and SciPy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from perfgate.history.changes import Change, change_points
from perfgate.history.news import Found, Kind, News, State, news
from perfgate.history.store import SeriesName, StoredPoint, StoredRun
from perfgate.model import Verdict

#: Nights beyond these are too long ago to say anything about tonight.
WINDOW = 365
_DAY_S = 86_400.0


@dataclass(frozen=True)
class Finding:
    """One thing that appeared in a series.

    Args:
        kind: "change", "drift" or "noisier".
        name: which series.
        before: level, or of "noisier" the standard deviation.
        after: the same, since.
        since: the first night of it.
        nights: those of which one was the first; of a drift, or of noise, those on which it came to be.
        last_good: the night before these; of a drift, the one from which on it drifted.
        state: "new"; "moved", when it was told with nights that do not hold its date any more; or "gone", when it was
            told and is not found any more.
        was: of "moved", the date that was told.
    """

    kind: Kind
    name: SeriesName
    before: float
    after: float
    since: StoredPoint
    nights: tuple[StoredPoint, ...]
    last_good: StoredPoint
    state: State = "new"
    was: StoredPoint | None = None

    @property
    def worse(self) -> bool:
        """Whether it is bad news; that something told is not seen any more is none."""
        worse = self.kind == "noisier" or (self.after > self.before) == (self.name.better == "lower")
        return worse and self.state != "gone"

    @property
    def share(self) -> float | None:
        """The change as a share of what was before; None when that was 0."""
        return (self.after - self.before) / abs(self.before) if self.before else None


@dataclass(frozen=True)
class Report:
    """What appeared, and in how many series was looked.

    Args:
        findings: what is new before corrections, worse before better, the largest first.
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
    """Find what the last nights have brought to light: what is found now, and had not been told before them.

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
    found.sort(key=lambda each: (each.state != "new", not each.worse, -_size(each)))
    return Report(tuple(found), series, until_s, tuple(future))


def _size(finding: Finding) -> float:
    return abs(finding.share) if finding.share is not None else float("inf")


def _news(name: SeriesName, points: Sequence[StoredPoint], new: int) -> list[Finding]:
    values = np.array([point.value for point in points])
    found = news(values, [point.allowed for point in points], new)
    return [_finding(name, points, each) for each in found]


def changes_of(points: Sequence[StoredPoint]) -> list[Change]:
    """Give the change points of what :func:`judged` gave."""
    return change_points([point.value for point in points])


def _finding(name: SeriesName, points: Sequence[StoredPoint], news: News) -> Finding:
    found: Found = news.found
    # A drift began with a night that was still good.
    first = found.earliest + (found.kind == "drift")
    return Finding(
        kind=found.kind,
        name=name,
        before=found.before,
        after=found.after,
        since=points[found.index],
        nights=tuple(points[first : found.latest + 1]),
        last_good=points[first - 1],
        state=news.state,
        was=points[news.was.index] if news.was else None,
    )
