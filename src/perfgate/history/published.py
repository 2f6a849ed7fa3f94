"""How do published figures come into the history? One series for each figure of a row; shown, never judged.

The file's name says the source and the hardware, ``hbv_rtx3080ti_laptop.csv``; a column whose name ends in a unit holds
figures, every other one says which row it is. A column ``run`` numbers repetitions.
"""

from __future__ import annotations

import csv
import io
import re
import statistics
from collections.abc import Sequence
from pathlib import Path

from perfgate.errors import HistoryError
from perfgate.hardware.key import slug
from perfgate.history.entry import Entry, Point, identity

#: What the key of published hardware begins with: it is no machine of ours.
KEY_PREFIX = "published-"

_HARDWARE = re.compile(
    r"(?:^|_)((?:rtx|gtx|gt)\d+\w*?(?:_laptop)?|ryzen\w+?|epyc\w+?|xeon\w+?|[abhlvt]\d{2,3}\w*?|[lt]4|mi\d{3}\w*?|rocm|cuda|cpu)"
    r"(?=_|$)"
)
# How a column's name ends, the factor to the base unit, that unit, and what is better.
_UNITS: tuple[tuple[str, float, str, str], ...] = (
    ("tokens_per_s", 1.0, "tokens/s", "higher"),
    ("accuracy_pct", 1.0, "%", "higher"),
    ("pct", 1.0, "%", "lower"),
    ("us", 1e-6, "s", "lower"),
    ("ms", 1e-3, "s", "lower"),
    ("s", 1.0, "s", "lower"),
    ("kib", 2.0**10, "B", "lower"),
    ("mib", 2.0**20, "B", "lower"),
    ("gib", 2.0**30, "B", "lower"),
    ("mb", 2.0**20, "B", "lower"),
    ("gb", 2.0**30, "B", "lower"),
    ("loss", 1.0, "1", "lower"),
    ("perplexity", 1.0, "1", "lower"),
)
_REPEATS = "run"
# The standard deviation of the column before it.
_SPREAD = "_std"


def read(path: Path, text: str) -> Entry:
    """Turn published figures into an entry.

    Args:
        path: the file; its name says the source and the hardware.
        text: what it holds.

    Raises:
        HistoryError: it is no table, or its name says no hardware; says where.
    """
    hardware = _HARDWARE.search(path.stem.lower())
    if hardware is None:
        raise HistoryError(
            f"{path}: the name says no hardware",
            "Published figures are kept by the hardware that they were measured on.",
            "name it SOURCE_HARDWARE.csv, e.g. hbv_rtx3080ti_laptop.csv",
        )
    key = KEY_PREFIX + slug(hardware[1])
    try:
        rows = list(csv.reader(io.StringIO(text), strict=True))
    except csv.Error as error:
        raise HistoryError(f"{path}: not a table: {error}") from error
    if not rows or len(set(rows[0])) != len(rows[0]) or not all(rows[0]):
        raise HistoryError(f"{path}: line 1: it does not name each column once")
    heading, table = rows[0], [row for row in rows[1:] if row]
    for number, row in enumerate(rows[1:], 2):
        if row and len(row) != len(heading):
            raise HistoryError(f"{path}: line {number}: {len(row)} cells under {len(heading)} columns")
    units = {name: unit for name in heading if (unit := _unit(name)) is not None}
    labels = [name for name in heading if name not in (*units, _REPEATS) and not name.endswith(_SPREAD)]
    found: dict[tuple[str, str], list[tuple[float, float | None]]] = {}
    for number, row in enumerate(table, 1):
        cells = dict(zip(heading, row, strict=True))
        said = [f"{name}={cells[name]}" for name in labels] or [f"row={number}"]
        for name in units:
            if (value := _number(cells[name])) is not None:
                found.setdefault((", ".join(said), name), []).append((value, _number(cells.get(name + _SPREAD, ""))))
    points = tuple(_point(path.stem, key, row, name, units[name], values) for (row, name), values in found.items())
    return Entry(
        identity=identity("published", path.name, rows),
        source=path.name,
        started_s=0.0,
        revision="",
        points=points,
        published=True,
    )


def _point(
    source: str,
    key: str,
    row: str,
    name: str,
    unit: tuple[float, str, str],
    values: Sequence[tuple[float, float | None]],
) -> Point:
    factor, base, better = unit
    figures = [value for value, _ in values]
    middle = statistics.median(figures)
    low, high = (min(figures), max(figures)) if len(figures) > 1 else (None, None)
    if len(values) == 1 and (spread := values[0][1]) is not None:
        low, high = middle - spread, middle + spread
    return Point(
        case=f"{source}::{row}",
        key=key,
        metric=name,
        unit=base,
        value=middle * factor,
        better=better,
        low=None if low is None else low * factor,
        high=None if high is None else high * factor,
    )


def _unit(column: str) -> tuple[float, str, str] | None:
    """Give the factor, the base unit and the better direction of a column of figures; None for one of labels."""
    if column.endswith(_SPREAD):
        return None
    # self_device_ms_10_steps: the unit, then what it is per.
    plain = re.sub(r"_\d+_\w+$", "", column)
    for ending, factor, base, better in _UNITS:
        if plain == ending or plain.endswith(f"_{ending}"):
            return factor, base, better
    return None


def _number(cell: str) -> float | None:
    """Read a cell; None where a word (``oom``) stands for a figure."""
    try:
        value = float(cell)
    except ValueError:
        return None
    # Not so large that it were infinite in the base unit.
    return value if abs(value) < 1e290 else None
