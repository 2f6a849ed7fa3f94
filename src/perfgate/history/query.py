"""What was one figure over the nights? For reports, the terminal and whoever asks from Python.

Heavy: imports SQLAlchemy, numpy and ruptures.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from perfgate.history.changes import Change
from perfgate.history.entry import latest_s
from perfgate.history.nightly import changes_of, judged
from perfgate.history.place import locate
from perfgate.history.store import History, SeriesName, StoredPoint, StoredRun


@dataclass(frozen=True)
class Series:
    """One figure over the nights, the oldest first.

    Args:
        case: node id.
        key: hardware key.
        metric: name of the figure.
        unit: base unit.
        better: "lower" or "higher".
        dates: when each run began, ISO 8601 in UTC; empty when unknown.
        commits: of each run.
        values: the figures.
        lows: the least value of a process of each run; None where there was one.
        highs: the greatest.
        verdicts: words of the verdicts; empty where nobody judged.
        hosts: names of the machines.
        changes: lasting changes of the level; their places count in the lists above.
        published: whether these are figures of others: shown, never judged.
        beside: for each change, what else changed with it than the code.
        future: so many of the last points are dated after now: shown, never judged.
    """

    case: str
    key: str
    metric: str
    unit: str
    better: str
    dates: tuple[str, ...]
    commits: tuple[str, ...]
    values: tuple[float, ...]
    lows: tuple[float | None, ...]
    highs: tuple[float | None, ...]
    verdicts: tuple[str, ...]
    hosts: tuple[str, ...]
    changes: tuple[Change, ...]
    published: bool
    beside: tuple[tuple[str, ...], ...] = ()
    future: int = 0


def series(store_url: str, case: str, key: str, metric: str) -> Series | None:
    """Give one figure of one case on one kind of hardware; None when the history has none.

    Args:
        store_url: a path or an address; "" is $PERFGATE_HISTORY, or the default file.
        case: node id, whole.
        key: hardware key.
        metric: name of the figure.

    Raises:
        HistoryError: the history is not there, or cannot be read.
        SettingError: the address cannot be used.
    """
    with History(locate(store_url, Path.cwd(), "the history"), create=False) as history:
        return _series(history, case, key, metric)


def reader(store_url: str) -> Callable[[str, str, str], Series | None]:
    """Give what gives one figure after the other, by case, key and metric: opened once, for a report of many cases.

    Args:
        store_url: as :func:`series` takes it.

    Raises:
        HistoryError: the history is not there, or cannot be read.
        SettingError: the address cannot be used.
    """
    return functools.partial(_series, History(locate(store_url, Path.cwd(), "the history"), create=False))


def _series(history: History, case: str, key: str, metric: str) -> Series | None:
    found = [name for name in history.find(case) if (name.case, name.key, name.metric) == (case, key, metric)]
    # Had its unit been another one, that was another series: the one of now is the latest.
    return max(
        (of_points(name, history.points(name.id)) for name in found), key=lambda one: one.dates[-1:], default=None
    )


def of_points(name: SeriesName, points: Sequence[StoredPoint]) -> Series:
    """Put the points of a series together with the changes of the last year, throttled nights left out."""
    is_published = any(point.run.published for point in points)
    until_s = latest_s()
    kept = [] if is_published else judged(points, until_s)
    at = {id(point): place for place, point in enumerate(points)}
    places = [at[id(point)] for point in kept]
    changes = [
        replace(each, index=places[each.index], earliest=places[each.earliest], latest=places[each.latest])
        for each in (changes_of(kept) if kept else ())
    ]
    return Series(
        case=name.case,
        key=name.key,
        metric=name.metric,
        unit=name.unit,
        better=name.better,
        dates=tuple(date(point.run.started_s) for point in points),
        commits=tuple(point.run.revision for point in points),
        values=tuple(point.value for point in points),
        lows=tuple(point.low for point in points),
        highs=tuple(point.high for point in points),
        verdicts=tuple(point.verdict for point in points),
        hosts=tuple(point.run.host for point in points),
        changes=tuple(changes),
        published=is_published,
        beside=tuple(differences(points[each.earliest - 1].run, points[each.latest].run) for each in changes),
        future=sum(point.run.started_s > until_s for point in points),
    )


def differences(before: StoredRun, after: StoredRun) -> tuple[str, ...]:
    """Tell what changed between two runs beside the code: the machine, and the software, where both are known."""
    found = []
    if before.host and after.host and before.host != after.host:
        found.append(f"host {before.host} -> {after.host}")
    old, new = json.loads(before.software), json.loads(after.software)
    if old and new:
        found += [
            f"{name} {old.get(name, 'none')} -> {new.get(name, 'none')}"
            for name in sorted(old.keys() | new.keys())
            if old.get(name) != new.get(name)
        ]
    return tuple(found)


def date(started_s: float) -> str:
    """Write a time as ISO 8601 in UTC; empty when unknown."""
    return datetime.fromtimestamp(started_s, UTC).isoformat(timespec="seconds") if started_s else ""
