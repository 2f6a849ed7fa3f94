"""How is a figure written? The only place that turns numbers into text, and limits from text into numbers.

Figures come in base units (seconds, bytes, bytes/s, hertz, 1) and leave with three or four significant digits.
The figures of one metric share one unit, chosen by the largest of them. No figure is ever written with an ``e``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from perfgate.errors import SettingError
from perfgate.model import Limit, MetricVerdict

#: What stands where there is no figure.
NOTHING = "-"

# By base unit its scales, the smallest first. A unit that is not here is written as it was given.
_SCALES: dict[str, tuple[tuple[float, str], ...]] = {
    "s": ((1e-9, "ns"), (1e-6, "us"), (1e-3, "ms"), (1.0, "s")),
    "B": ((1.0, "B"), (2.0**10, "KiB"), (2.0**20, "MiB"), (2.0**30, "GiB")),
    "B/s": ((1.0, "B/s"), (1e3, "kB/s"), (1e6, "MB/s"), (1e9, "GB/s"), (1e12, "TB/s")),
    "FLOP/s": ((1.0, "FLOP/s"), (1e3, "kFLOP/s"), (1e6, "MFLOP/s"), (1e9, "GFLOP/s"), (1e12, "TFLOP/s")),
    "Hz": ((1.0, "Hz"), (1e3, "kHz"), (1e6, "MHz")),
}
# Units that name nothing a reader would miss.
_SILENT = frozenset({"", "1", "count"})
# What the end of a condition's name says: the factor to the base unit, and that unit.
_SUFFIXES = {
    "s": (1.0, "s"),
    "bytes": (1.0, "B"),
    "hz": (1.0, "Hz"),
    "mhz": (1e6, "Hz"),
    "c": (1.0, "C"),
    "w": (1.0, "W"),
}
# Outside of these a plain decimal is longer than it is legible.
_SMALLEST, _LARGEST = 1e-4, 1e15

_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(\D.*)?")
#: A smaller share is no limit that anybody would write as one.
_TINY_SHARE = 1e-3
_LIMIT_FORMS = 'a share ("2%"), an amount with its unit ("0.3us", "1MiB"), the larger of both ("2% or 0.25us"), or "0"'


@dataclass(frozen=True)
class Figures:
    """The figures of one metric's verdict as text, all in one unit."""

    value: str
    baseline: str
    change: str
    interval: str
    limit: str
    detectable: str


def quantity(value: float | None, unit: str) -> str:
    """Write one figure in the scale that suits it, e.g. ``30.0 us``."""
    return together([value], unit)[0]


def together(values: Sequence[float | None], unit: str, *, signed: bool = False) -> list[str]:
    """Write figures of one kind in one scale, the one that suits the largest.

    Figures that differ but would read the same get up to two more digits; bytes, which repeat exactly, are written in a
    smaller scale until they differ.

    Args:
        values: in the base unit; None is written as ``-``.
        unit: base unit or any other word.
        signed: write a plus before what is greater than zero.
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    scales = _SCALES.get(unit, ((1.0, "" if unit in _SILENT else unit),))
    index = _suitable(max(map(abs, known), default=0.0), scales)
    extra = 0
    while True:
        factor, word = scales[index]
        whole = (unit == "B" and factor == 1.0) or unit not in _SCALES
        texts = {value: _number(value / factor, extra, whole=whole) for value in known}
        if len(set(texts.values())) == len(set(known)):
            break
        if unit == "B" and index > 0:
            index -= 1
        elif unit != "B" and extra < 2:
            extra += 1
        else:
            break

    def write(value: float | None) -> str:
        if value is None:
            return NOTHING
        if not math.isfinite(value):
            return _in_words(value)
        sign = "+" if signed and value > 0 else ""
        return f"{sign}{texts[value]} {word}".rstrip()

    return [write(value) for value in values]


def percent(change: float | None) -> str:
    """Write a change as a percentage, e.g. ``+3.1 %``; below 0.1 % with the digits that show it, never ``-0.0 %``."""
    if change is None:
        return NOTHING
    if not math.isfinite(change):
        return _in_words(change)
    hundredths = change * 100
    size = abs(hundredths)
    if size < 5e-7:
        return "0.0 %"
    if size < 0.095:
        text = f"{hundredths:.{-math.floor(math.log10(size))}f}"
    elif size < 99.95:
        text = f"{hundredths:.1f}"
    else:
        text = f"{hundredths:.0f}" if size < _LARGEST else _powered(change, 2)
    return f"{'+' if change > 0 else ''}{text} %"


def share(part: float | None) -> str:
    """Write a limit or a part of a whole as a percentage without sign or empty digits, e.g. ``2 %`` or ``93.4 %``."""
    if part is None:
        return NOTHING
    if not math.isfinite(part):
        return _in_words(part)
    hundredths = part * 100
    if abs(hundredths) >= _LARGEST or 0 < abs(hundredths) < _SMALLEST:
        return f"{_powered(part, 2)} %"
    text = _number(hundredths, 0)
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %"


def figures(metric: MetricVerdict) -> Figures:
    """Write the figures of one metric's verdict in one unit."""
    changes = (metric.change, metric.low, metric.high)
    if metric.relative:
        value, baseline = together([metric.value, metric.baseline], metric.unit)
        change, low, high = map(percent, changes)
        limit = share(metric.limit)
        if metric.limit is not None and metric.baseline and 0 < metric.limit < _TINY_SHARE:
            # Such a limit was given as an amount: an allocator's granule, say.
            limit = quantity(metric.limit * abs(metric.baseline), metric.unit)
        # An estimate: more digits than a tenth of a percent would be pretence.
        detectable = share(None if metric.detectable is None else round(metric.detectable, 3))
    else:
        everything = (metric.value, metric.baseline, *changes, metric.limit, metric.detectable)
        value, baseline, *_ = together(everything, metric.unit)
        _, _, change, low, high, *_ = together(everything, metric.unit, signed=True)
        *_, limit, detectable = together(everything, metric.unit)
    interval = NOTHING if metric.low is None and metric.high is None else f"[{low}, {high}]"
    return Figures(value, baseline, change, interval, limit, detectable)


def count(number: int, one: str, many: str = "") -> str:
    """Write a number of things, e.g. ``1 process``, ``4 processes``."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def condition(name: str, value: object) -> str:
    """Write something that was noted around the samples; the end of its name says its unit.

    ``condition("sm_clock_mhz", [1755, 1980])`` gives ``sm clock 1755 MHz to 1980 MHz``.
    """
    words, _, suffix = name.rpartition("_")
    factor, unit = _SUFFIXES.get(suffix, (1.0, "")) if words else (1.0, "")
    title = (words if unit else name).replace("_", " ")
    if not isinstance(value, list | tuple):
        return f"{title} {_noted(value, factor, unit)}"
    numbers = all(isinstance(part, int | float) for part in value)
    texts = dict.fromkeys(_noted(part, factor, unit) for part in value)
    return f"{title} {(' to ' if numbers and len(value) == 2 else ', ').join(texts) or 'none'}"


def _noted(value: object, factor: float, unit: str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return quantity(value * factor, unit or "count")
    return NOTHING if value is None else str(value)


def parse_quantity(text: str) -> tuple[float, str]:
    """Read a figure with its unit, e.g. ``0.3us`` -> ``(3e-7, "s")``; a bare number has the unit ``""``.

    Raises:
        ValueError: there is no finite number at the front.
    """
    number, word = _split(text)
    for base, scales in _SCALES.items():
        for factor, name in scales:
            if word == name or (base == "s" and word == name.replace("u", "µ")):
                return number * factor, base
    return number, word


def parse_limit(text: str, unit: str | None = None) -> Limit:
    """Read an allowed change: ``2%``, ``0.3us``, ``1MiB``, ``2% or 0.25us`` (the larger of both) or ``0``.

    Args:
        text: what the user wrote.
        unit: base unit of the metric it is for. An amount must then be of this unit, which may be any word
            (``5 tokens/s``); for the unit ``1`` it is a plain number. None accepts any unit that has scales.

    Raises:
        SettingError: it cannot be read. The caller adds where it came from.
    """
    limit = Limit()
    for part in re.split(r"\s+or\s+", text.strip()):
        try:
            number, word = parse_quantity(part) if unit is None or unit in _SCALES else _split(part)
        except ValueError:
            raise _unusable(text, "it is not a share or an amount") from None
        if number < 0:
            raise _unusable(text, "a limit cannot be negative")
        if word == "%":
            limit = Limit(max(limit.relative, number / 100), limit.absolute)
        elif number == 0 and not word:
            continue
        else:
            _check_unit(text, part, word, unit)
            limit = Limit(limit.relative, max(limit.absolute, number))
    return limit


def _split(text: str) -> tuple[float, str]:
    match = _QUANTITY.fullmatch(text.strip())
    if match is None or not math.isfinite(number := float(match[1])):
        raise ValueError(text)
    return number, (match[2] or "").strip()


def _check_unit(text: str, part: str, word: str, unit: str | None) -> None:
    if not word:
        if unit not in _SILENT:
            raise _unusable(text, f"{part} has no unit")
    elif unit is None:
        if word not in _SCALES:
            raise _unusable(text, f"{word} is not a unit of time, memory or throughput")
    elif word != unit:
        kind = "a plain number" if unit in _SILENT else f"an amount of {unit}"
        raise _unusable(text, f"{part} is not {kind}")


def _unusable(text: str, why: str) -> SettingError:
    return SettingError(f"limit {text!r} cannot be used: {why}", hint=f"a limit is {_LIMIT_FORMS}")


def _suitable(size: float, scales: Sequence[tuple[float, str]]) -> int:
    """Find the largest scale in which the figure is 1 or more after rounding; for 0 the base unit."""
    if size == 0:
        return [factor for factor, _ in scales].index(1.0)
    for index in range(len(scales) - 1):
        number, step = size / scales[index][0], round(scales[index + 1][0] / scales[index][0])
        # 999.97 us would be written as 1000.0 us: that is 1.00 ms.
        if number < step and float(_number(number, 0).split()[0]) < step:
            return index
    return len(scales) - 1


def _number(number: float, extra: int, *, whole: bool = False) -> str:
    """Write a number with three significant digits, four from 100 up, and some extra ones."""
    size = abs(number)
    if size == 0:
        return "0"
    if whole and number == int(number) and size < _LARGEST:
        return str(int(number))
    if size < _SMALLEST or size >= _LARGEST:
        return _powered(number)
    exponent = int(f"{size:.2e}".split("e")[1])
    digits = 2 - exponent if exponent < 1 else 1 if size < 999.95 else 0
    return f"{number:.{digits + extra}f}"


def _powered(number: float, shift: int = 0) -> str:
    """Write a number that is too large or small for a plain decimal, times ten to the shift, e.g. ``1.50 x 10^-9``."""
    mantissa, exponent = f"{number:.2e}".split("e")
    return f"{mantissa} x 10^{int(exponent) + shift}"


def _in_words(value: float) -> str:
    return "not a number" if math.isnan(value) else "infinite" if value > 0 else "minus infinite"
