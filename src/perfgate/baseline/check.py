"""What in a baseline file can be used, and what is wrong with the rest?

Files are edited by hand, merged by git and cut short by full disks. Whatever is wrong is named as a Damage with the
case and the field, and spoils only the cases that depend on it; nothing here raises.
"""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from perfgate.baseline.fields import (
    FIGURE,
    SECONDS,
    SPEED,
    SPREAD,
    TWICE,
    UNKNOWN,
    Found,
    Path,
    read_fields,
    read_figure,
    read_figures,
    read_object,
    read_text,
    read_texts,
    show_kind,
    show_number,
    show_path,
    show_text,
)
from perfgate.baseline.format import SCHEMA, Entry, read_entries
from perfgate.model import Baseline, Better, Damage, Outcome, StoredMetric

_CONFLICT = re.compile(r"^(<{7}|={7}|>{7}|\|{7})(?=\s|$)", re.MULTILINE)
_OUTCOMES = {outcome.value: outcome for outcome in Outcome}
_BETTER: dict[str, Better] = {"lower": "lower", "higher": "higher"}
_CASE = frozenset({"outcome", "recorded", "method", "metrics"})
_CASE_KNOWN = _CASE | {"kernels", "notes"}
_RECORDED = frozenset({"date", "commit", "environment"})
_METRIC = frozenset({"unit", "better", "values"})
_METRIC_KNOWN = _METRIC | {"spread", "speeds"}
_TOP = ("schema", "key", "environments", "cases")

Value = TypeVar("Value")
#: The environments of a file by id, each with what is wrong in it.
Software = Mapping[str, tuple[dict[str, str], Found]]


@dataclass(frozen=True)
class Contents:
    """What a file holds: the cases that can be used, what is wrong, and all entries as they stand in the file."""

    cases: Mapping[str, Baseline]
    damages: tuple[Damage, ...] = ()
    environments: tuple[Entry, ...] = ()
    entries: tuple[Entry, ...] = ()

    @property
    def whole_damage(self) -> Damage | None:
        """Give what makes the file unusable as a whole, if anything does."""
        return next((damage for damage in self.damages if damage.case is None), None)


@dataclass(frozen=True)
class Origin:
    """Where a file's text comes from, for the messages."""

    file: str
    key: str
    module: str

    def whole(self, problem: str, path: Path = (), hint: str = "") -> Damage:
        """Name a problem that makes the whole file unusable."""
        restore = f"restore it with: git checkout -- {shlex.quote(self.file)}"
        hint = hint or f"{restore} (or delete it and record again with --perf-update=all)"
        return Damage(self.file, problem, None, show_path(path) or None, hint)

    def part(self, case: str, path: Path, problem: str) -> Damage:
        """Name a problem of one case."""
        hint = f"record it again: pytest {shlex.quote(f'{self.module}.py::{case}')} --perf-update=all"
        if problem == UNKNOWN:
            hint = f"upgrade perfgate if a newer one wrote it, or {hint}"
        return Damage(self.file, problem, case, show_path(path) or None, hint)


def examine(data: bytes, origin: Origin) -> Contents:
    """Read what can be used of a file's bytes, and name what cannot."""
    top = _decode(data, origin)
    if isinstance(top, Damage):
        return Contents({}, (top,))
    if whole := _whole_damages(top, origin):
        return Contents({}, tuple(whole))
    values = {entry.name: entry.value for entry in top}
    entries: tuple[Entry, ...] = values["cases"]
    software = _software(values["environments"])
    twice = _repeated(entries)
    cases: dict[str, Baseline] = {}
    damages = [origin.part(name, (), TWICE) for name in twice]
    for entry in entries:
        if entry.name not in twice:
            found: Found = []
            baseline = _baseline(entry, software, found)
            if baseline is not None:
                cases[entry.name] = baseline
            damages.extend(origin.part(entry.name, path, problem) for path, problem in found)
    return Contents(cases, tuple(damages), values["environments"], entries)


def _decode(data: bytes, origin: Origin) -> tuple[Entry, ...] | Damage:
    """Turn bytes into top-level entries, or say why that is impossible."""
    if not data.strip():
        return origin.whole("the file is empty")
    if (zero := data.find(b"\0")) >= 0:
        return origin.whole(f"binary data, not JSON text: byte 0x00 at offset {zero}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return origin.whole(f"not UTF-8 text: byte 0x{error.object[error.start]:02x} at offset {error.start}")
    try:
        return read_entries(text)
    except json.JSONDecodeError as error:
        return _syntax_damage(text, error, origin)
    except TypeError as error:
        return origin.whole(f"must be a JSON object, is {show_kind(error.args[0])}")
    except RecursionError:
        return origin.whole("nested too deep to be a baseline file")


def _syntax_damage(text: str, error: json.JSONDecodeError, origin: Origin) -> Damage:
    """Name why a text is not JSON: a conflict, a missing end, or something else."""
    if conflict := _CONFLICT.search(text):
        line = text.count("\n", 0, conflict.start()) + 1
        side = f"git checkout --ours -- {shlex.quote(origin.file)}"
        hint = f"resolve the conflict in an editor, or take one side with: {side} (or --theirs)"
        return origin.whole(f"merge-conflict marker {conflict.group(1)} in line {line}", hint=hint)
    # Strings cannot span lines: an object with an error in its last line, which does not even end in a brace, was cut.
    rest = text[error.pos :].rstrip()
    last = "\n" not in rest and not rest.endswith("}")
    if text.lstrip().startswith("{") and (last or error.msg.startswith("Unterminated string")):
        line, column = text.count("\n") + 1, len(text) - text.rfind("\n")
        return origin.whole(f"cut short: the text ends at line {line}, column {column}, inside an object")
    return origin.whole(f"not JSON: line {error.lineno}, column {error.colno}: {error.msg}")


def _whole_damages(top: Sequence[Entry], origin: Origin) -> list[Damage]:
    """Name what is wrong with the top level of a file."""
    values = {entry.name: entry.value for entry in top}
    schema = values.get("schema", SCHEMA)
    if type(schema) is not int:
        return [origin.whole(f"must be the number {SCHEMA}, is {show_kind(schema)}", ("schema",))]
    if schema > SCHEMA:
        problem = f"written by a newer perfgate (schema {show_number(schema)}, this one reads {SCHEMA})"
        return [origin.whole(problem, ("schema",), "upgrade perfgate: pip install --upgrade perfgate")]
    if schema < SCHEMA:
        return [origin.whole(f"unknown schema {show_number(schema)}, this perfgate reads {SCHEMA}", ("schema",))]
    damages = [origin.whole(TWICE, (name,)) for name in _repeated(top)]
    upgrade = f"upgrade perfgate if a newer one wrote it, or remove the field from {origin.file}"
    damages += [origin.whole(UNKNOWN, (name,), upgrade) for name in values if name not in _TOP]
    damages += [origin.whole("missing", (name,)) for name in _TOP if name not in values]
    key = values.get("key", origin.key)
    if not isinstance(key, str):
        damages.append(origin.whole(f"must be a string, is {show_kind(key)}", ("key",)))
    elif key != origin.key:
        problem = f"the file says {show_text(key)}, but it lies in the folder of {show_text(origin.key)}"
        damages.append(origin.whole(problem, ("key",)))
    for name in ("environments", "cases"):
        if not isinstance(values.get(name, ()), tuple):
            damages.append(origin.whole(f"must be an object, is {show_kind(values[name])}", (name,)))
    return damages


def _software(entries: Sequence[Entry]) -> Software:
    twice = _repeated(entries)
    software = {}
    for entry in entries:
        path = ("environments", entry.name)
        found: Found = [(path, TWICE)] if entry.name in twice else []
        software[entry.name] = (read_texts(entry.value, path, found), found)
    return software


def _baseline(entry: Entry, software: Software, found: Found) -> Baseline | None:
    """Read one case; None when anything in it is wrong."""
    fields = read_fields(entry.value, (), _CASE, _CASE_KNOWN, found)
    outcome = _word(fields, (), "outcome", _OUTCOMES, found)
    recorded = (
        read_fields(fields["recorded"], ("recorded",), _RECORDED, _RECORDED, found) if "recorded" in fields else {}
    )
    origin = read_texts(recorded, ("recorded",), found)
    environment = _environment(origin["environment"], software, found) if "environment" in origin else {}
    method = read_texts(fields.get("method", {}), ("method",), found)
    metrics = [
        _metric(name, value, found)
        for name, value in read_object(fields.get("metrics", {}), ("metrics",), found).items()
    ]
    kernels = _kernels(fields.get("kernels", {}), found)
    notes = read_texts(fields.get("notes", {}), ("notes",), found)
    if fields.get("metrics") == {} and outcome is Outcome.PASSED:
        found.append((("metrics",), "empty: a case that passed has at least one figure"))
    if found or outcome is None:
        return None
    metrics.sort(key=lambda metric: metric.name)
    commit, date = origin["commit"], origin["date"]
    return Baseline(entry.name, outcome, tuple(metrics), method, environment, commit, date, kernels, notes)


def _kernels(value: object, found: Found) -> dict[str, dict[str, float | str]]:
    """Read the figures of the kernels that a case launched."""
    kernels: dict[str, dict[str, float | str]] = {}
    for name, record in read_object(value, ("kernels",), found).items():
        path = ("kernels", name)
        kernels[name] = {}
        for part, figure in read_object(record, path, found).items():
            if isinstance(figure, str):
                kernels[name][part] = figure
            elif (number := read_figure(figure, (*path, part), FIGURE, found)) is not None:
                kernels[name][part] = number
    return kernels


def _metric(name: str, value: object, found: Found) -> StoredMetric:
    path = ("metrics", name)
    fields = read_fields(value, path, _METRIC, _METRIC_KNOWN, found)
    unit = read_text(fields.get("unit", ""), (*path, "unit"), found)
    better = _word(fields, path, "better", _BETTER, found) or "lower"
    values: tuple[float, ...] = ()
    if "values" in fields:
        bounds = SECONDS if unit == "s" or unit.startswith("s/") else FIGURE
        values = read_figures(fields["values"], (*path, "values"), bounds, found)
    spread = read_figure(fields["spread"], (*path, "spread"), SPREAD, found) if "spread" in fields else None
    speeds = {}
    if "speeds" in fields:
        for speed, figures in read_object(fields["speeds"], (*path, "speeds"), found).items():
            where = (*path, "speeds", speed)
            speeds[speed] = read_figures(figures, where, SPEED, found)
            if values and speeds[speed] and len(speeds[speed]) != len(values):
                found.append((where, f"holds {len(speeds[speed])} figures, but values holds {len(values)}"))
    return StoredMetric(name, unit, better, values, spread, speeds)


def _word(fields: Mapping[str, Any], path: Path, name: str, words: Mapping[str, Value], found: Found) -> Value | None:
    """Read one of some known words."""
    value = fields.get(name)
    if isinstance(value, str) and value in words:
        return words[value]
    if name in fields:
        shown = show_text(value) if isinstance(value, str) else show_kind(value)
        found.append(((*path, name), f"must be one of {', '.join(words)}; is {shown}"))
    return None


def _environment(name: str, software: Software, found: Found) -> dict[str, str]:
    if name not in software:
        found.append((("recorded", "environment"), f"the file has no environment {show_text(name)}"))
        return {}
    environment, faults = software[name]
    found.extend(faults)
    return environment


def _repeated(entries: Iterable[Entry]) -> dict[str, int]:
    """Give the names that occur more than once, in their order."""
    return {name: count for name, count in Counter(entry.name for entry in entries).items() if count > 1}
