"""How is a comparison drawn? Small drawings of one metric, inline and without a style of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence

from perfgate.model import MetricVerdict
from perfgate.report import words
from perfgate.report.html.markup import Safe, tag
from perfgate.units import NOTHING, count, figures, together
from perfgate.verdict import cycles

_WIDTH = 220.0
_EDGE = 6.0
#: More values than these are not drawn as dots of their own.
_MOST = 200


def scaled(value: float, low: float, high: float, begin: float, end: float) -> float:
    """Give the place of a value between two ends; what is outside stands at the end."""
    if high <= low:
        return (begin + end) / 2
    return begin + (end - begin) * min(1.0, max(0.0, (value - low) / (high - low)))


def drawing(width: float, height: float, label: str, *children: Safe, class_: str = "") -> Safe:
    """Make a drawing with a text that says what it shows."""
    box = f"0 0 {width:g} {height:g}"
    return tag(
        "svg", *children, class_=class_ or None, viewBox=box, width=width, height=height, role="img", aria_label=label
    )


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Safe:
    """Draw a line."""
    return tag("line", x1=round(x1, 2), y1=round(y1, 2), x2=round(x2, 2), y2=round(y2, 2), class_=class_)


def dot(x: float, y: float, radius: float, class_: str, *children: Safe) -> Safe:
    """Draw a dot."""
    return tag("circle", *children, cx=round(x, 2), cy=round(y, 2), r=radius, class_=class_)


def values(metric: MetricVerdict) -> Safe | None:
    """Draw the values of the baseline above those of now, a dot a process, with their medians and the limit.

    Returns:
        The drawing; None where no value of a process is known.
    """
    before, now = _finite(metric.baseline_values), _finite(metric.values)
    if not before and not now:
        return None
    boundary = _boundary(metric)
    everything = [*before, *now, *([boundary] if boundary is not None else [])]
    low, high = min(everything), max(everything)
    # A distance that rounding explains is none.
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        low, high = low - 1, high + 1

    def at(value: float) -> float:
        return scaled(value, low, high, _EDGE, _WIDTH - _EDGE)

    parts = [tag("path", d=f"M{_EDGE:g} 9H{_WIDTH - _EDGE:g}M{_EDGE:g} 23H{_WIDTH - _EDGE:g}", class_="axis")]
    if boundary is not None:
        parts.append(line(at(boundary), 1, at(boundary), 31, "bound"))
    for row, (each, word) in enumerate(((before, "before"), (now, "now"))):
        y = 9.0 + 14 * row
        if each:
            # One path draws all dots of a row: a page may have thousands of rows. What coincides is drawn once.
            places = dict.fromkeys(f"M{at(value):.1f} {y:g}h0" for value in each[:_MOST])
            parts.append(tag("path", d="".join(places), class_=f"dots {word}"))
            middle = at(_median(each))
            parts.append(line(middle, y - 6, middle, y + 6, f"median {word}"))
    return drawing(_WIDTH, 32, _told(metric, before, now), *parts, class_="values")


def change(metric: MetricVerdict) -> Safe | None:
    """Draw the change with its interval against the limit; 0 is in the middle.

    Returns:
        The drawing; None where no change is known, or where nothing changed and nothing was allowed to.
    """
    if metric.change is None or not math.isfinite(metric.change):
        return None
    ends = [end for end in (metric.low, metric.high) if end is not None and math.isfinite(end)]
    limit = metric.limit if metric.limit is not None and math.isfinite(metric.limit) else 0.0
    reach = 1.1 * max(abs(metric.change), limit, *map(abs, ends))
    if not reach:
        return None
    # An interval far wider than what it is about would make a dot of the change and the limit.
    reach = min(reach, max(1.1 * abs(metric.change), 6 * limit) or reach)

    def at(value: float) -> float:
        return scaled(value, -reach, reach, _EDGE, _WIDTH - _EDGE)

    parts = []
    if limit:
        parts.append(tag("rect", x=round(at(-limit), 2), y=2, width=round(at(limit) - at(-limit), 2), height=20,
                         class_="allowed"))  # fmt: skip
    parts.append(line(at(0), 2, at(0), 22, "axis"))
    if len(ends) == 2:
        path = f"M{at(ends[0]):.2f} 12H{at(ends[1]):.2f}"
        path += "".join(f"M{at(end):.2f} 8V16" for end in ends if abs(end) <= reach)
        parts.append(tag("path", d=path, class_="interval"))
    parts.append(dot(at(metric.change), 12, 3.5, "now"))
    text = figures(metric)
    told = f"change {words.change(metric)}" + (f" in {text.interval}" if text.interval != NOTHING else "")
    told += f", limit {text.limit}" if text.limit != NOTHING else ""
    return drawing(_WIDTH, 24, told, *parts, class_="change")


def _boundary(metric: MetricVerdict) -> float | None:
    """Give the value of now from which on a change is beyond the limit."""
    base, limit = metric.baseline, metric.limit
    if base is None or limit is None or not limit or not math.isfinite(base) or not math.isfinite(limit):
        return None
    allowed = limit * abs(base) if metric.relative else limit
    # On a faster machine the same limit is reached with less time, and with more done in a second.
    ran = cycles.speed(metric) or 1.0
    return (base + allowed) / ran if metric.better == "lower" else (base - allowed) * ran


def _told(metric: MetricVerdict, before: Sequence[float], now: Sequence[float]) -> str:
    parts = []
    for name, each in (("baseline", before), ("now", now)):
        if each:
            low, high = together([min(each), max(each)], metric.unit)
            span = low if low == high else f"{low} to {high}"
            parts.append(f"{name} {span} in {count(len(each), 'process', 'processes')}")
    return "; ".join(parts)


def _finite(each: Sequence[float]) -> list[float]:
    return [value for value in each if math.isfinite(value)]


def _median(each: Sequence[float]) -> float:
    import statistics

    return statistics.median(each)
