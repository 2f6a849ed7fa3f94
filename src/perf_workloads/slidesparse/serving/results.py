"""What came of every run? One line each, only ever appended, so that no run can lose another's.

The file is JSON Lines. What stands for a point is its last success, else its last failure: a failure never replaces a
success. Files of several runs merge by putting their lines together. Imports nothing heavy.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from perf_workloads.slidesparse import schemes
from perf_workloads.slidesparse.serving.workloads import Point, Stage
from perfgate.errors import RunFileError
from perfgate.model import Outcome

VERSION = 1
#: How every line begins.
_START = '{"version"'
#: What lines lack that were written before it was stored.
_SINCE = ("environment", "commit")


class Key(NamedTuple):
    """What a record is about."""

    device: str
    model: str
    scheme: str
    stage: Stage
    tokens: int

    @property
    def point(self) -> Point:
        """Give the stage and M."""
        return Point(self.stage, self.tokens)


@dataclass(frozen=True)
class Record:
    """How one run of one point ended.

    Attributes:
        key: what was run.
        when: it ended, ISO 8601.
        outcome: "passed", or how it failed.
        cause: why it failed, in one line.
        figures: by name, in base units; empty for a failure.
        facts: engine, backend, graph mode, what sparse INT8 products write, converted layers and what else decided.
        environment: driver, toolkit, torch, triton and python, as baselines have them; {} where nobody knows.
        commit: of the code that ran, with "+changes" where it had some; "" where nobody knows.
    """

    key: Key
    when: str
    outcome: Outcome
    cause: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    commit: str = ""

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.outcome is Outcome.PASSED

    def fact(self, name: str) -> str:
        """Give a fact, "" if it is not known. Sparse INT8 products wrote int32 before there was an ``epilogue``."""
        old = "int32" if name == "epilogue" and self.ok and _is_sparse_int8(self.key.scheme) else ""
        return self.facts.get(name, old)


def append(path: Path, record: Record) -> None:
    """Append one record; safe beside other processes, and after one that died while it wrote."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(_line(record).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> list[Record]:
    """Read all records, in the order in which they were written; none where there is no file.

    Raises:
        RunFileError: the file cannot be read, or a line is no record. The end of a line that was being written when its
            process died is left out: what ran then is absent, as if it had not been run.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise RunFileError(f"{path}: cannot be read: {why}", hint="give a file that serve wrote") from None
    records = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            records.append(_record(json.loads(line)))
        except json.JSONDecodeError:
            if (line.startswith(_START) or _START.startswith(line)) and not line.endswith("}"):
                continue
            raise _unreadable(path, number, "it is no JSON") from None
        except (KeyError, TypeError, ValueError) as error:
            raise _unreadable(path, number, f"{type(error).__name__}: {error}") from None
    return records


def standing(records: Iterable[Record]) -> dict[Key, Record]:
    """Give what stands for every point that was run: its last success, else its last failure."""
    stands: dict[Key, Record] = {}
    for record in records:
        before = stands.get(record.key)
        if before is None or record.ok or not before.ok:
            stands[record.key] = record
    return stands


def merge(sources: Iterable[Path], target: Path) -> int:
    """Put the records of files together in one, by time, each once; the target's own are kept.

    Returns:
        How many it then holds.
    """
    lines = {_line(record): record for path in (target, *sources) for record in read(path)}
    ordered = sorted(lines, key=lambda line: lines[line].when)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    partial.write_text("".join(f"{line}\n" for line in ordered), encoding="utf-8")
    os.replace(partial, target)
    return len(ordered)


def _is_sparse_int8(name: str) -> bool:
    return name in schemes.SCHEMES and schemes.find(name).codes == "int8" and schemes.find(name).group is not None


def _line(record: Record) -> str:
    fields = dataclasses.asdict(record)
    for name in _SINCE:
        if not fields[name]:
            del fields[name]
    return json.dumps({"version": VERSION, **fields.pop("key")._asdict(), **fields, "outcome": record.outcome.value})


def _record(fields: dict[str, Any]) -> Record:
    if fields["version"] != VERSION:
        raise ValueError(f"version {fields['version']} instead of {VERSION}")
    key = Key(*(fields[name] for name in Key._fields))
    return Record(
        key,
        fields["when"],
        Outcome(fields["outcome"]),
        fields["cause"],
        dict(fields["figures"]),
        dict(fields["facts"]),
        dict(fields.get("environment", {})),
        fields.get("commit", ""),
    )


def _unreadable(path: Path, number: int, why: str) -> RunFileError:
    return RunFileError(
        f"{path}:{number}: not a serving result: {why}",
        hint="take the file from where it was recorded, or remove the line",
    )
