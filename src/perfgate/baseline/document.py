"""How is a file that lies beside the baselines read, whole or not at all, and replaced?

Tuned configurations and calibrations are such files: JSON that a schema of the package describes, made for git and
changed by merges. Of a baseline file the sound cases are used beside damaged ones; that is read in ``check``.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perfgate.baseline.files import read_file, replace_file
from perfgate.baseline.layout import display_path
from perfgate.errors import BaselineError
from perfgate.report import conform


@dataclass(frozen=True)
class Kind:
    """What such a file holds.

    Args:
        name: what messages call it: ``"a calibration"``.
        schema_file: its schema, of those that ship with the package.
        version: of its format, the only one that is read.
    """

    name: str
    schema_file: str
    version: int


def read(path: Path, kind: Kind, again: str) -> dict[str, Any] | None:
    """Read a file and check what it holds; None when there is no file.

    Args:
        path: the file.
        kind: what it is to hold.
        again: how to make it anew, for messages: ``"delete it and measure again"``.

    Raises:
        BaselineError: the file cannot be read, is damaged, or is of another version.
    """
    try:
        data = read_file(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BaselineError(
            f"{display_path(path)}: cannot be read: {error.strerror}",
            hint="check what lies there, and the permissions of the file and its folders",
        ) from error
    document = _decoded(data, path, kind, again)
    version = document.get("schema") if isinstance(document, dict) else None
    if type(version) is int and version != kind.version:
        raise BaselineError(
            f"{display_path(path)}: has format version {version}, this perfgate reads {kind.version}",
            hint="pip install --upgrade perfgate" if version > kind.version else again,
        )
    fault = next(conform.faults(document, conform.load(kind.schema_file)), None)
    if fault is not None:
        raise damaged(path, f"not {kind.name}: {fault}", again)
    contents: dict[str, Any] = document
    return contents


def write(path: Path, text: str, lost: str) -> None:
    """Replace a file. The caller holds the lock.

    Args:
        path: the file.
        text: ASCII.
        lost: what is not stored when it cannot be written: ``"What was found"``.

    Raises:
        BaselineError: it cannot be written; the old one is as it was.
    """
    try:
        replace_file(path, text.encode("ascii"))
    except OSError as error:
        raise BaselineError(
            f"{display_path(path)}: cannot be written: {error.strerror}",
            f"{lost} is not stored; what was stored before is unchanged.",
            "check the free space and the permissions of its folder, or name another with --baselines DIR",
        ) from error


def damaged(path: Path, problem: str, again: str) -> BaselineError:
    """Give the error for a file that cannot be used as it is, with what brings it back."""
    shown = display_path(path)
    return BaselineError(
        f"{shown}: {problem}", hint=f"restore it with: git checkout -- {shlex.quote(shown)} (or {again})"
    )


def _decoded(data: bytes, path: Path, kind: Kind, again: str) -> Any:
    try:
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=_once, parse_constant=_refuse)
    except RecursionError as error:
        raise damaged(path, f"nested too deep to be {kind.name}", again) from error
    except json.JSONDecodeError as error:
        problem = f"not JSON: line {error.lineno}, column {error.colno}: {error.msg}" if data.strip() else "it is empty"
        raise damaged(path, problem, again) from error
    except ValueError as error:
        raise damaged(path, f"not {kind.name}: {error}", again) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its members, unless a name occurs twice, which a bad merge leaves behind."""
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise ValueError(f"{json.dumps(name)} is given twice (a bad merge?)")
        members[name] = value
    return members


def _refuse(word: str) -> float:
    raise ValueError(f"{word} stands where a number belongs")
