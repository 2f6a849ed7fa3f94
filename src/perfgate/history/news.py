"""What do the last nights of a series tell that was not told before? Replays the reports of the nights before.

Heavy: imports numpy, ruptures and SciPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from perfgate.history.changes import change_points
from perfgate.history.trends import drift, noisier

Kind = Literal["change", "drift", "noisier"]
State = Literal["new", "moved", "gone"]

#: What was told is withdrawn when it has not been found for so many nights in a row: near a threshold things flicker.
GRACE = 3
# The nights whose reports are replayed.
_REPLAYED = 10
# Two analyses may date one change so many nights apart.
_NEAR = 5

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """Something that the rules find in a series; places count in its values.

    Args:
        kind: "change", "drift" or "noisier".
        index: its first night.
        earliest: the first night that may be the first one.
        latest: the last night that may be; of a drift or of noise, the last night of it.
        before: level, or of "noisier" the standard deviation.
        after: the same, since.
        told: the level that was worth telling last; of a drift that has grown since, less than ``after``.
    """

    kind: Kind
    index: int
    earliest: int
    latest: int
    before: float
    after: float
    told: float

    @property
    def up(self) -> bool:
        """Whether the figure became larger."""
        return self.after > self.before


@dataclass(frozen=True)
class News:
    """What is to be told.

    Args:
        found: what it is about.
        state: "new", "moved" (a change whose told nights do not hold its date any more) or "gone" (told, and not found
            any more).
        was: of "moved", what was told.
    """

    found: Found
    state: State
    was: Found | None = None


@dataclass(frozen=True)
class _Told:
    found: Found
    missing: int = 0


def news(values: Values, allowed: Sequence[float | None], new: int) -> list[News]:
    """Give what the last nights tell, and the nights before did not.

    Args:
        values: one finite value a night, the oldest first.
        allowed: for each night the change that its limit allowed.
        new: how many nights are the last ones.
    """

    def until(end: int) -> list[Found]:
        return find(values[:end], allowed[end - 1]) if end > 0 else []

    end = len(values)
    now = until(end)
    # Most series are at rest: what was the same before a withdrawal could be due has no news.
    if [_key(each) for each in now] == [_key(each) for each in until(end - new - GRACE + 1)]:
        return []
    start = max(0, end - new - _REPLAYED)
    told = [_Told(each) for each in until(start)]
    for night in range(start + 1, end - new + 1):
        told, _ = _tell(told, until(night), 1)
    return _tell(told, now, new)[1]


def find(values: Values, allowed: float | None) -> list[Found]:
    """Give everything that the rules find in a series, whenever it appeared.

    Args:
        values: one finite value a night, the oldest first.
        allowed: the change that the limit of the last night allows.
    """
    # Most series of exact figures are one value.
    if len(values) == 0 or float(np.ptp(values)) == 0:
        return []
    changes = change_points(values)
    found = [
        Found("change", each.index, each.earliest, each.latest, each.before, each.after, each.after) for each in changes
    ]
    last = len(values) - 1
    slow = drift(values, changes, allowed)
    if slow is not None:
        found.append(Found("drift", slow.index, slow.index, last, slow.before, slow.after, slow.told))
    spread = noisier(values, changes)
    if spread is not None:
        # It became so on one of these nights, or on several.
        found.append(Found("noisier", spread.index, spread.index, last, spread.before, spread.after, spread.after))
    return found


def _key(found: Found) -> tuple[Kind, bool, float]:
    """Give what is the same of something on two nights between which nothing happened to it."""
    return found.kind, found.up, {"change": found.index, "drift": found.told, "noisier": 0}[found.kind]


def _tell(told: Sequence[_Told], now: Sequence[Found], nights: int) -> tuple[list[_Told], list[News]]:
    """Give what has been told after some nights, and what of it they told."""
    left = list(told)
    kept: list[_Told] = []
    events: list[News] = []
    for each in now:
        old = min(
            (one for one in left if _same(one.found, each)),
            key=lambda one: abs(one.found.index - each.index),
            default=None,
        )
        if old is None:
            events.append(News(each, "new"))
            kept.append(_Told(each))
            continue
        left.remove(old)
        if each.kind == "change" and not old.found.earliest <= each.index <= old.found.latest:
            events.append(News(each, "moved", old.found))
            kept.append(_Told(each))
        elif each.kind == "drift" and _grown(old.found, each):
            events.append(News(each, "new"))
            kept.append(_Told(each))
        else:
            kept.append(_Told(replace(old.found, latest=each.latest) if each.kind == "drift" else old.found))
    for old in left:
        missing = old.missing + nights
        # Noise that lasts becomes the case's own after some weeks: that it is not news any more takes nothing back.
        if missing < GRACE or old.found.kind == "noisier":
            kept.append(_Told(old.found, missing))
        elif not _ended(old.found, now):
            events.append(News(old.found, "gone"))
    return kept, events


def _same(old: Found, new: Found) -> bool:
    if old.kind != new.kind or old.up != new.up:
        return False
    apart = max(old.earliest, new.earliest) - min(old.latest, new.latest)
    return old.kind != "change" or abs(old.index - new.index) <= _NEAR or apart <= 0


def _grown(old: Found, new: Found) -> bool:
    """Tell whether a drift has been worth telling again since."""
    return new.told > old.told if old.up else new.told < old.told


def _ended(old: Found, now: Sequence[Found]) -> bool:
    """Tell whether a drift is no more because a step came after it: it was one all the same."""
    return old.kind == "drift" and any(each.kind == "change" and each.index > old.latest - GRACE for each in now)
