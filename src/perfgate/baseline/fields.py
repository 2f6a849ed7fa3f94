"""Is a JSON value what the format wants in this place, and if not, what is it?

Each reader gives what could be read and notes each fault with the path to it; none raises. A sound file passes through
here on every run, so paths stay tuples until there is something to say about them.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

from perfgate.baseline.format import MAX_DIGITS, Literal, Repeated

#: The names that lead to a field.
Path = tuple[str, ...]
#: What is wrong in one part of the file: pairs of path and problem.
Found = list[tuple[Path, str]]


@dataclass(frozen=True)
class Bounds:
    """What no honest figure passes."""

    low: float
    high: float
    rule: str


FIGURE = Bounds(-1e30, 1e30, "a figure is between -1e30 and 1e30")
SECONDS = Bounds(0.0, 1e7, "a time is between 0 and 1e7 s")
SPREAD = Bounds(0.0, 1e30, "a spread is between 0 and 1e30")
SPEED = Bounds(math.ulp(0.0), 1e30, "a speed is above 0 and at most 1e30")

UNKNOWN = "unknown field"
TWICE = "given twice (a bad merge?)"
_NUMBERS = frozenset({int, float})
_PLAIN_NAME = re.compile(r"[\w.\-\[\]/]{1,80}", re.ASCII)


def read_figures(value: object, path: Path, bounds: Bounds, found: Found) -> tuple[float, ...]:
    """Read a list of numbers; name the first that is not one."""
    if not isinstance(value, list):
        found.append((path, f"must be a list of numbers, is {show_kind(value)}"))
        return ()
    if not value:
        found.append((path, "empty: there is one figure for each recorded process"))
        return ()
    # NaN cannot occur here: its literal is read as a Literal. So the smallest and the largest figure stand for all.
    if _NUMBERS.issuperset(map(type, value)) and bounds.low <= min(value) and max(value) <= bounds.high:
        return tuple(map(float, value))
    for index, figure in enumerate(value):
        if (problem := _figure_problem(figure, bounds)) is not None:
            found.append(((*path[:-1], f"{path[-1]}[{index}]"), problem))
            break
    return ()


def read_figure(value: object, path: Path, bounds: Bounds, found: Found) -> float | None:
    """Read one number."""
    if (problem := _figure_problem(value, bounds)) is not None:
        found.append((path, problem))
        return None
    assert isinstance(value, int | float)
    return float(value)


def read_fields(
    value: object, path: Path, needed: frozenset[str], known: frozenset[str], found: Found
) -> dict[str, Any]:
    """Read an object with known names; name those that are unknown or missing."""
    if not isinstance(value, dict):
        found.append((path, f"must be an object, is {show_kind(value)}"))
        return {}
    members = read_object(value, path, found)
    if needed <= members.keys() <= known:
        return members
    found.extend(((*path, name), UNKNOWN) for name in members if name not in known)
    found.extend(((*path, name), "missing") for name in sorted(needed - members.keys()))
    return {name: member for name, member in members.items() if name in known}


def read_object(value: object, path: Path, found: Found) -> dict[str, Any]:
    """Read an object with any names; name those that are given twice."""
    if not isinstance(value, dict):
        found.append((path, f"must be an object, is {show_kind(value)}"))
        return {}
    if isinstance(value, Repeated):
        found.extend(((*path, name), TWICE) for name in value.names)
    return value


def read_texts(value: object, path: Path, found: Found) -> dict[str, str]:
    """Read an object whose members are all strings."""
    members = read_object(value, path, found)
    if all(type(text) is str for text in members.values()):
        return members
    found.extend(((*path, name), _text_problem(text)) for name, text in members.items() if not isinstance(text, str))
    return {name: text for name, text in members.items() if isinstance(text, str)}


def read_text(value: object, path: Path, found: Found) -> str:
    """Read a string; what is none reads as empty."""
    if isinstance(value, str):
        return value
    found.append((path, _text_problem(value)))
    return ""


def show_path(path: Path) -> str:
    """Join the names of a path; one that could be taken for something else is quoted."""
    return ".".join(name if _PLAIN_NAME.fullmatch(name) else show_text(name) for name in path)


def show_kind(value: object) -> str:
    """Name what was found where something else belongs."""
    if isinstance(value, Literal):
        return value.text
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str):
        return f"the string {show_text(value)}"
    if isinstance(value, int | float):
        return f"the number {show_number(value)}"
    return "a list" if isinstance(value, list) else "an object"


def show_number(value: float) -> str:
    """Show an untrusted number, however large."""
    if isinstance(value, int) and abs(value) >= 10**MAX_DIGITS:
        return f"of {len(str(abs(value)))} digits"
    return "beyond 1.8e308" if math.isinf(value) else f"{value:.6g}"


def show_text(value: str) -> str:
    """Show untrusted text: quoted, ASCII, and short."""
    return json.dumps(value if len(value) <= 60 else value[:60] + "...")


def _text_problem(value: object) -> str:
    return f"must be a string, is {show_kind(value)}"


def _figure_problem(figure: object, bounds: Bounds) -> str | None:
    if isinstance(figure, Literal):
        return f"implausible: {figure.text}, {bounds.rule}"
    if isinstance(figure, bool) or not isinstance(figure, int | float):
        return f"must be a number, is {show_kind(figure)}"
    if bounds.low <= figure <= bounds.high:
        return None
    return f"implausible: the number {show_number(figure)}, {bounds.rule}"
