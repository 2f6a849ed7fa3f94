"""How is a baseline file laid out: records to text, and text to its entries?

A file looks like this; see ``perfgate/schema/baseline.schema.json``::

    {
      "schema": 1,
      "key": "nvidia-h200",
      "environments": {
        "0f2ab81c9d3e": {"driver": "580.1", "python": "3.12.3", "torch": "2.11.0"}
      },
      "cases": {
        "test_rows[128]": {
          "outcome": "passed",
          "recorded": {"date": "2026-01-31T12:00:00Z", "commit": "1c2d3e4", "environment": "0f2ab81c9d3e"},
          "method": {"clock": "device", "version": "1"},
          "metrics": {
            "device_time": {"unit": "s", "better": "lower", "values": [1.71e-06, 1.7e-06], "spread": 0.012}
          }
        }
      }
    }

It is made for review and for git: a case that is recorded again changes one line for its origin and one for each
metric. Software is shared by reference, under a hash of its content. Date and commit stay with the case: were they
shared too, any two branches that record different cases would both insert a line at the same place, and conflict.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from perfgate.model import Baseline, StoredMetric

#: Version of the file format.
SCHEMA = 1
SIGNIFICANT_DIGITS = 6
#: Whole numbers from here on are not all representable as floats.
_EXACT = 2.0**53
_ID_LENGTH = 12
#: No figure needs an integer of more digits.
MAX_DIGITS = 40
_SPACE = re.compile(r"[ \t\n\r]*")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
#: The two top-level objects whose members are read one by one.
_OPENED = frozenset({"environments", "cases"})


@dataclass(frozen=True)
class Entry:
    """One member of a JSON object, with the text of its value as it stands in the file.

    ``value`` is a tuple of entries for the members of ``environments`` and ``cases``.
    """

    name: str
    value: Any
    raw: str


@dataclass(frozen=True)
class Literal:
    """A token that stands where JSON has a number, and is none that can be used."""

    text: str


class Repeated(dict[str, Any]):
    """An object that gives a name more than once, which JSON readers pass over in silence."""

    names: tuple[str, ...] = ()


def read_entries(text: str) -> tuple[Entry, ...]:
    """Read a file's text into its top-level entries, keeping the text of each case.

    Raises:
        json.JSONDecodeError: the text is not JSON.
        TypeError: it is JSON, but not an object; the argument is the value.
        RecursionError: it is nested too deep.
    """
    start = _skip(text, 0)
    if text.startswith("{", start):
        entries, end = _members(text, start, _OPENED)
    else:
        value, end = _value(text, start)
    end = _skip(text, end)
    if end != len(text):
        raise json.JSONDecodeError("Extra data", text, end)
    if not text.startswith("{", start):
        raise TypeError(value)
    return entries


def dump(key: str, environments: Iterable[tuple[str, str]], cases: Iterable[tuple[str, str]]) -> str:
    """Give the text of a file.

    Args:
        key: the hardware key.
        environments: pairs of id and JSON text.
        cases: pairs of case name and JSON text.
    """
    blocks = ",\n".join(_block(name, pairs) for name, pairs in (("environments", environments), ("cases", cases)))
    return f'{{\n  "schema": {SCHEMA},\n  "key": {json.dumps(key)},\n{blocks}\n}}\n'


def dump_case(baseline: Baseline, environment: str) -> str:
    """Give the text of one case.

    A figure that is not a number is written as it is: what is written is checked by the reader, in one place for all.

    Args:
        baseline: what to write; its environment is left to the reference.
        environment: the id of its environment.
    """
    recorded = {"date": baseline.date, "commit": baseline.commit, "environment": environment}
    lines = [
        f'      "outcome": {json.dumps(baseline.outcome)}',
        f'      "recorded": {json.dumps(recorded)}',
        f'      "method": {json.dumps(dict(baseline.method), sort_keys=True)}',
    ]
    metrics = ",\n".join(
        f"        {json.dumps(metric.name)}: {_metric_text(metric)}"
        for metric in sorted(baseline.metrics, key=lambda metric: metric.name)
    )
    lines.append(f'      "metrics": {{\n{metrics}\n      }}' if metrics else '      "metrics": {}')
    if baseline.kernels:
        kernels = ",\n".join(
            f"        {json.dumps(name)}: {json.dumps({part: _plain_value(value) for part, value in record.items()})}"
            for name, record in sorted(baseline.kernels.items())
        )
        lines.append(f'      "kernels": {{\n{kernels}\n      }}')
    if baseline.notes:
        lines.append(f'      "notes": {json.dumps(dict(baseline.notes), sort_keys=True)}')
    return "{\n" + ",\n".join(lines) + "\n    }"


def dump_environment(environment: Mapping[str, str]) -> str:
    """Give the text of one environment, on one line."""
    return json.dumps(dict(environment), sort_keys=True)


def environment_id(environment: Mapping[str, str], taken: Mapping[str, Any]) -> str:
    """Give the id of an environment: the shortest hash of its content that names no other one.

    Args:
        environment: the software and its versions.
        taken: the environments that the file has already, by id.
    """
    digest = hashlib.sha256(dump_environment(environment).encode()).hexdigest()
    lengths = range(_ID_LENGTH, len(digest))
    return next((digest[:n] for n in lengths if taken.get(digest[:n], environment) == environment), digest)


def rounded(values: Sequence[float]) -> list[float]:
    """Round figures to six significant digits; keep whole numbers, and a figure that all processes agree on, exact.

    A figure that repeats exactly (an error of a deterministic kernel) may have the limit 0, and rounding would move it
    past that.
    """
    agreed = len(set(values)) == 1
    return [_written(value if agreed or _countable(value) else _round(value)) for value in values]


def _round(value: float) -> float:
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}")


def _countable(value: float) -> bool:
    """Tell whether a figure is a whole number that a float holds exactly."""
    return value.is_integer() and abs(value) < _EXACT


def _written(value: float) -> float:
    return int(value) if _countable(value) else value


def _plain_value(value: float | str) -> float | str:
    return value if isinstance(value, str) else rounded([float(value)])[0]


def _metric_text(metric: StoredMetric) -> str:
    fields: dict[str, Any] = {"unit": metric.unit, "better": metric.better, "values": rounded(_floats(metric.values))}
    if metric.spread is not None:
        fields["spread"] = _written(_round(metric.spread))
    if metric.speeds:
        fields["speeds"] = {name: rounded(_floats(metric.speeds[name])) for name in sorted(metric.speeds)}
    return json.dumps(fields)


def _floats(values: Iterable[float]) -> list[float]:
    return [float(value) for value in values]


def _block(name: str, pairs: Iterable[tuple[str, str]]) -> str:
    members = ",\n".join(
        f"    {json.dumps(member)}: {_plain(raw)}" for member, raw in sorted(pairs, key=lambda p: p[0])
    )
    return f'  "{name}": {{\n{members}\n  }}' if members else f'  "{name}": {{}}'


def _plain(raw: str) -> str:
    """Write text that an editor or git has changed as ASCII with LF; outside of strings these are spaces only."""
    return _NOT_ASCII.sub(lambda char: json.dumps(char.group())[1:-1], raw.replace("\r\n", "\n").replace("\r", "\n"))


def _members(text: str, at: int, opened: frozenset[str] = frozenset()) -> tuple[tuple[Entry, ...], int]:
    """Read the object that starts at ``at``; give its members and where it ends."""
    entries: list[Entry] = []
    at = _skip(text, at + 1)
    if text.startswith("}", at):
        return (), at + 1
    while True:
        if not text.startswith('"', at):
            raise json.JSONDecodeError("Expecting property name enclosed in double quotes", text, at)
        name, at = _DECODER.raw_decode(text, at)
        at = _skip(text, at)
        if not text.startswith(":", at):
            raise json.JSONDecodeError("Expecting ':' delimiter", text, at)
        start = _skip(text, at + 1)
        if name in opened and text.startswith("{", start):
            value, at = _members(text, start)
        else:
            value, at = _value(text, start)
        entries.append(Entry(name, value, text[start:at]))
        at = _skip(text, at)
        if text.startswith("}", at):
            return tuple(entries), at + 1
        if not text.startswith(",", at):
            raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
        at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) == len(pairs):
        return result
    repeated = Repeated(result)
    repeated.names = tuple(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
    return repeated


def _integer(text: str) -> int | Literal:
    digits = len(text.lstrip("-"))
    return int(text) if digits <= MAX_DIGITS else Literal(f"the number of {digits} digits")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=Literal)
_PATIENT_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=Literal, parse_int=_integer)


def _value(text: str, at: int) -> tuple[Any, int]:
    """Read the value that starts at ``at``; give it and where it ends."""
    try:
        return _DECODER.raw_decode(text, at)
    except json.JSONDecodeError:
        raise
    except ValueError:
        # Python refuses integers of thousands of digits without saying which. To look at each costs time, so only now.
        return _PATIENT_DECODER.raw_decode(text, at)
