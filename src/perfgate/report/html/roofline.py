"""How near do cases come to what their machine can move? Work against speed, on logarithmic axes, a plot a machine."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from perfgate.model import CaseResult, Verdict
from perfgate.report.html.markup import Safe, tag
from perfgate.report.html.plots import drawing, line, scaled
from perfgate.report.throughput import throughput
from perfgate.units import count, quantity, share

_WIDTH, _HEIGHT = 560.0, 320.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 82.0, 28.0, 14.0, 40.0
_BINARY = math.log10(2)
#: Verdicts that stand out in the plot; all others are drawn alike.
_MARKED = frozenset({Verdict.REGRESSED, Verdict.IMPROVED})


@dataclass(frozen=True)
class Point:
    """One case in a plot."""

    x: float
    y: float
    told: str
    verdict: Verdict
    anchor: str | None


@dataclass(frozen=True)
class _Axes:
    """Two logarithmic axes and the places on them."""

    low_x: float
    high_x: float
    low_y: float
    high_y: float

    def x(self, value: float) -> float:
        return scaled(math.log10(value), self.low_x, self.high_x, _LEFT, _WIDTH - _RIGHT)

    def y(self, value: float) -> float:
        return scaled(math.log10(value), self.low_y, self.high_y, _HEIGHT - _BOTTOM, _TOP)


def plots(results: Sequence[CaseResult], anchors: Mapping[int, str]) -> list[Safe]:
    """Draw the plots of each machine whose cases state their work.

    Args:
        results: the cases.
        anchors: of cases that have a card, by position.
    """
    drawn = []
    for key in dict.fromkeys(result.key for result in results):
        own = [(result, anchors.get(index)) for index, result in enumerate(results) if result.key == key]
        for draw in (_bandwidth, _intensity):
            figure = draw(key, own)
            if figure is not None:
                drawn.append(figure)
    return drawn


def _bandwidth(key: str, own: Sequence[tuple[CaseResult, str | None]]) -> Safe | None:
    """Draw bytes of a call against their share of the measured copy bandwidth."""
    points = []
    for result, anchor in own:
        speed, work = throughput(result), result.work
        if speed is None or work is None or not work.bytes or not speed.share_of_copy:
            continue
        told = f"{result.case}: {quantity(work.bytes, 'B')}, {speed.text()}"
        points.append(Point(work.bytes, speed.share_of_copy, told, result.verdict, anchor))
    points = [point for point in points if _sane(point)]
    if not points:
        return None
    axes = _axes(points, roof=1.0)
    roof = [line(_LEFT, axes.y(1.0), _WIDTH - _RIGHT, axes.y(1.0), "roof")]
    roof.append(tag("text", "a plain copy", x=_LEFT + 4, y=round(axes.y(1.0) - 4, 1)))
    title = f"{key}: bytes of a call and their share of copy bandwidth"
    ticks = [2.0**power for power in _powers(axes.low_x / _BINARY, axes.high_x / _BINARY, 5)]
    return _figure(title, points, axes, roof, "bytes of one call", ticks, _bytes, share)


def _intensity(key: str, own: Sequence[tuple[CaseResult, str | None]]) -> Safe | None:
    """Draw operations a byte against operations a second, under the roof that copy bandwidth makes."""
    points, ceilings = [], []
    for result, anchor in own:
        speed, work = throughput(result), result.work
        if speed is None or work is None or not work.bytes or not work.flops or not speed.flops_per_s:
            continue
        told = f"{result.case}: {work.flops / work.bytes:.3g} FLOP/B, {speed.text()}"
        points.append(Point(work.flops / work.bytes, speed.flops_per_s, told, result.verdict, anchor))
        if result.copy_bandwidth:
            ceilings.append(result.copy_bandwidth)
    points = [point for point in points if _sane(point)]
    ceilings = [ceiling for ceiling in ceilings if math.isfinite(ceiling)]
    if not points:
        return None
    axes = _axes(points)
    roof = []
    if ceilings:
        ceiling = max(ceilings)
        # Where the roof leaves the plot it has nothing to say.
        begin = max(10**axes.low_x, 10**axes.low_y / ceiling)
        end = min(10**axes.high_x, 10**axes.high_y / ceiling)
        if begin < end:
            roof.append(line(axes.x(begin), axes.y(begin * ceiling), axes.x(end), axes.y(end * ceiling), "roof"))
    title = f"{key}: operations a byte and operations a second; the line is the copy bandwidth"
    ticks = [10.0**power for power in _powers(axes.low_x, axes.high_x, 1)]
    return _figure(title, points, axes, roof, "FLOP a byte", ticks, "{:g}".format, _flops)


def _sane(point: Point) -> bool:
    """Tell whether a point is of this world: what is not would leave all others in one corner."""
    return all(1e-18 < value < 1e24 for value in (point.x, point.y))


def _bytes(value: float) -> str:
    return quantity(value, "B").replace(".00", "").replace(".0 ", " ")


def _flops(value: float) -> str:
    return quantity(value, "FLOP/s").replace(".00", "").replace(".0 ", " ")


def _axes(points: Sequence[Point], roof: float | None = None) -> _Axes:
    xs, ys = [math.log10(point.x) for point in points], [math.log10(point.y) for point in points]
    if roof is not None:
        ys.append(math.log10(roof))
    return _Axes(math.floor(min(xs) - 0.1), math.ceil(max(xs) + 0.1), math.floor(min(ys) - 0.05), max(ys) + 0.12)


def _figure(
    title: str,
    points: Sequence[Point],
    axes: _Axes,
    roof: Sequence[Safe],
    below: str,
    ticks: Sequence[float],
    at_x: Callable[[float], str],
    at_y: Callable[[float], str],
) -> Safe:
    bottom = _HEIGHT - _BOTTOM
    parts: list[Safe] = []
    for value in ticks:
        x = axes.x(value)
        parts += [line(x, _TOP, x, bottom, "grid"), tag("text", at_x(value), x=round(x, 1), y=bottom + 15,
                                                        class_="middle")]  # fmt: skip
    for value in _levels(axes.low_y, axes.high_y):
        y = axes.y(value)
        parts += [line(_LEFT, y, _WIDTH - _RIGHT, y, "grid"), tag("text", at_y(value), x=_LEFT - 6, y=round(y + 3.5, 1),
                                                                 class_="end")]  # fmt: skip
    parts += roof
    parts.append(tag("text", below, x=_WIDTH - _RIGHT, y=_HEIGHT - 6, class_="end quiet"))
    # What stands out is drawn last, and so on top.
    for point in sorted(points, key=lambda point: point.verdict in _MARKED):
        parts.append(_drawn(point, axes))
    label = f"{title}; {count(len(points), 'case')}"
    return tag("figure", drawing(_WIDTH, _HEIGHT, label, *parts, class_="roofline"), tag("figcaption", title))


def _drawn(point: Point, axes: _Axes) -> Safe:
    dot = tag(
        "circle", tag("title", point.told), cx=round(axes.x(point.x), 1), cy=round(axes.y(point.y), 1), r=4,
        class_=f"point {point.verdict.value}",
    )  # fmt: skip
    return tag("a", dot, href=f"#{point.anchor}") if point.anchor else dot


def _powers(low: float, high: float, step: int) -> list[int]:
    """Give at most eight exponents between two, all of them multiples of a step."""
    every = range(math.ceil(low / step) * step, math.floor(high) + 1, step)
    return list(every)[:: max(1, math.ceil(len(every) / 8))]


def _levels(low: float, high: float) -> list[float]:
    """Give levels between two exponents: powers of ten, and their doubles and fives where there are few."""
    powers = range(math.floor(low), math.floor(high) + 1)
    steps = (1, 2, 5) if high - low < 2.5 else (1,)
    return [step * 10.0**power for power in powers for step in steps if low <= math.log10(step * 10.0**power) <= high]
