"""Which failing cases does an issue wait for? They stand in it, unseen, until a night has compared them again."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping

from perfgate.model import Run, Verdict
from perfgate.report import markdown
from perfgate.report.escape import code

#: A machine's name, and a case.
Failing = tuple[str, str]
#: GitHub takes no endless text; what is beyond is closed by the others.
_MOST = 200
_SHOWN = 10
_MARKER = re.compile(r"<!-- perfgate: failing (\[.*?\]) -->")
_GOOD = frozenset({Verdict.UNCHANGED, Verdict.IMPROVED})


def failing(runs: Mapping[str, Run]) -> frozenset[Failing]:
    """Give the cases that fail, by the name of the machine."""
    return frozenset((name, each.case) for name, run in runs.items() for each in run.results if markdown.fails(each))


def answered(runs: Mapping[str, Run]) -> frozenset[Failing]:
    """Give the cases that were compared and are good; what was skipped, or is undecided, has not answered."""
    return frozenset((name, each.case) for name, run in runs.items() for each in run.results if each.verdict in _GOOD)


def of(body: str) -> frozenset[Failing]:
    """Read from an issue what it waits for; nothing where it does not say."""
    found = _MARKER.search(body)
    if found is None:
        return frozenset()
    try:
        return frozenset((str(machine), str(case)) for machine, case in json.loads(found[1]))
    except (ValueError, TypeError):
        return frozenset()


def marked(text: str, after: str, cases: Collection[Failing]) -> str:
    """Put into an issue what it waits for, behind the first line that ``after`` is."""
    if not cases:
        return text
    # What would end the comment is written as JSON writes any character.
    listed = json.dumps(sorted(cases)[:_MOST], separators=(",", ":")).replace(">", "\\u003e")
    return text.replace(after, f"{after}\n<!-- perfgate: failing {listed} -->", 1)


def told(text: str, cases: Collection[Failing]) -> str:
    """Add the cases of earlier nights that were not compared in this one."""
    if not cases:
        return text
    names = ", ".join(f"{code(case)} on {code(machine)}" for machine, case in sorted(cases)[:_SHOWN])
    more = f" and {len(cases) - _SHOWN} more" if len(cases) > _SHOWN else ""
    return f"{text}\nFailed in an earlier night, and not compared since: {names}{more}.\n"
