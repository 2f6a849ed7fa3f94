"""How did a metric move over past runs? A line over time, with the points where it changed for good."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from perfgate.report.html.markup import Safe, tag
from perfgate.report.html.plots import dot, drawing, line, scaled
from perfgate.units import together

_WIDTH, _HEIGHT, _LEFT, _EDGE = 720.0, 120.0, 76.0, 8.0


class Series(Protocol):
    """Past values of one metric of one case on one machine, the oldest first."""

    @property
    def dates(self) -> Sequence[Any]:
        """When each was measured."""

    @property
    def commits(self) -> Sequence[str]:
        """The commit of each."""

    @property
    def values(self) -> Sequence[float]:
        """The values, in the base unit."""

    @property
    def changes(self) -> Sequence[Any]:
        """Where it changed for good: positions in ``values``, or records with such an ``index``."""


#: ``history(case, key, metric)``, or None where nothing is known.
History = Callable[[str, str, str], Series | None]


def drawn(series: Series, unit: str) -> Safe | None:
    """Draw a series; None where fewer than two values are finite."""
    points = [(place, value) for place, value in enumerate(series.values) if math.isfinite(value)]
    if len(points) < 2:
        return None
    low, high = min(value for _, value in points), max(value for _, value in points)
    margin = (high - low) * 0.08 or abs(high) * 0.05 or 1.0
    bottom, top = low - margin, high + margin
    last = len(series.values) - 1

    def x(place: int) -> float:
        return scaled(place, 0, last, _LEFT, _WIDTH - _EDGE)

    def y(value: float) -> float:
        return scaled(value, bottom, top, _HEIGHT - 22, _EDGE)

    lowest, highest = together([low, high], unit)
    parts = [line(_LEFT, y(value), _WIDTH - _EDGE, y(value), "axis") for value in (low, high)]
    parts += [
        tag("text", text, x=_LEFT - 6, y=round(y(value) + 3.5, 1), class_="end")
        for text, value in ((lowest, low), (highest, high))
    ]
    places = [place for place in map(_place, series.changes) if place is not None and 0 <= place <= last]
    parts += [line(x(place), _EDGE, x(place), _HEIGHT - 22, "bound") for place in places]
    path = " ".join(f"{round(x(place), 1)},{round(y(value), 1)}" for place, value in points)
    parts.append(tag("polyline", points=path, class_="series"))
    for place, value in points:
        if place in places or len(points) <= 60:
            word = "now" if place in places else "before"
            parts.append(dot(x(place), y(value), 2.5, word, tag("title", _told(series, place, unit))))
    ends = (_date(series.dates[0]), _date(series.dates[last])) if len(series.dates) > last else ("", "")
    parts.append(tag("text", ends[0], x=_LEFT, y=_HEIGHT - 6))
    parts.append(tag("text", ends[1], x=_WIDTH - _EDGE, y=_HEIGHT - 6, class_="end"))
    changed = "; ".join(f"changed at {_told(series, place, unit)}" for place in places)
    label = f"{lowest} to {highest}, {ends[0]} to {ends[1]}" + (f"; {changed}" if changed else "")
    return drawing(_WIDTH, _HEIGHT, label, *parts, class_="line")


def _place(change: Any) -> int | None:
    place = getattr(change, "index", None) if not isinstance(change, int) else change
    return place if isinstance(place, int) else None


def _date(date: Any) -> str:
    return str(date)[:10]


def _told(series: Series, place: int, unit: str) -> str:
    parts = together([series.values[place]], unit)
    if place < len(series.commits) and series.commits[place]:
        parts.append(str(series.commits[place])[:12])
    if place < len(series.dates):
        parts.append(_date(series.dates[place]))
    return ", ".join(parts)
