"""What does GitHub show at the lines of a change? Workflow commands that annotate the tests which failed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from perfgate.model import CaseResult, Run, Verdict
from perfgate.report import words
from perfgate.report.case_text import failure
from perfgate.report.markdown import fails, ranked
from perfgate.units import count

#: GitHub shows so many errors and so many warnings of one step, and drops the others without a word.
MOST = 10
#: An annotation is read beside code: the whole story is in the summary.
MOST_CHARACTERS = 4000

_WARNED = frozenset({Verdict.INCONCLUSIVE, Verdict.THROTTLED, Verdict.STALE, Verdict.REMOVED})

#: Where a test is: its file from pytest's root, and its line counted from 0, or None. As pytest's reports give it.
Place = tuple[str, int | None]


def lines(
    run: Run, places: Mapping[str, Place], *, root: Path, workspace: Path, strict: bool = False, folder: str = "."
) -> list[str]:
    """Give the workflow commands of a run: an error for each case that fails, a warning for each that is undecided.

    Args:
        run: the finished run.
        places: where the tests are, by case.
        root: pytest's root folder.
        workspace: the top of the checkout; files are named from there.
        strict: whether the run was judged under ``--perf-strict``.
        folder: path of pytest's root from where the user will type what is hinted at.
    """
    cases = ranked(run)
    failing = [result for result in cases if fails(result)]
    warned = [result for result in cases if result.verdict in _WARNED and not fails(result)] if run.compared else []

    def annotate(kind: str, result: CaseResult) -> str:
        title = f"performance {words.of_case(result)}: {words.split(result.case)[1]}"
        place = _place(places.get(result.case), result, root, workspace)
        return command(kind, failure(result, strict, folder, run.base), title=title, **place)

    errors = [command("error", problem, title="performance gate") for problem in run.problems]
    return [
        *_worst("error", [*errors, *(annotate("error", result) for result in failing)]),
        *_worst("warning", [annotate("warning", result) for result in warned]),
    ]


def command(kind: str, message: str, **properties: str) -> str:
    """Write one workflow command in one line: whatever its parts hold, it stays one command.

    Args:
        kind: "error", "warning" or "notice".
        message: what is shown; may have several lines.
        properties: ``title``, ``file``, ``line``; empty ones are left out.
    """
    given = ",".join(f"{name}={_property(value)}" for name, value in properties.items() if value)
    if len(message) > MOST_CHARACTERS:
        message = f"{message[:MOST_CHARACTERS]} ..."
    return f"::{kind}{' ' if given else ''}{given}::{_data(message)}"


def _data(text: str) -> str:
    return _seen(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _seen(text: str) -> str:
    """Give text without what ends a line in Python's eyes only, and without what has no UTF-8."""
    lines = text.encode("utf-8", "replace").decode().splitlines()
    return "\n".join("".join(character if character.isprintable() else " " for character in line) for line in lines)


def _place(place: Place | None, result: CaseResult, root: Path, workspace: Path) -> dict[str, str]:
    """Give file and line as GitHub knows them; nothing for a file outside of the checkout."""
    name, line = place or (words.module(result.case), None)
    path = os.path.relpath(os.path.normpath(root / name), workspace)
    if path.startswith(os.pardir) or os.path.isabs(path):
        return {}
    return {"file": Path(path).as_posix(), "line": "" if line is None else str(line + 1)}


def _worst(kind: str, commands: Sequence[str]) -> list[str]:
    """Keep as many as GitHub shows, the last of which says how many there are besides."""
    if len(commands) <= MOST:
        return list(commands)
    left = count(len(commands) - MOST + 1, "more case")
    note = command(kind, f"and {left}: see the summary of this run", title="performance gate")
    return [*commands[: MOST - 1], note]
