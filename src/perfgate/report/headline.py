"""What is the answer of a run, in one line? ``2 regressed of 126 on NVIDIA H200``."""

from __future__ import annotations

from collections.abc import Sequence

from perfgate.model import FAILING, CaseResult, Run, Verdict
from perfgate.report.words import by_verdict, not_judged, only_recorded
from perfgate.static.targets import KEY_PREFIX
from perfgate.units import count

# Verdicts of a case that was compared, and the comparison decided something.
_COMPARED = frozenset({Verdict.UNCHANGED, Verdict.IMPROVED, Verdict.REGRESSED, Verdict.OUTCOME_CHANGED})
# What makes nobody look closer.
_CALM = frozenset({Verdict.UNCHANGED, Verdict.IMPROVED, Verdict.SKIPPED})


def headline(runs: Sequence[Run], results: Sequence[CaseResult]) -> str:
    """Say how many cases got which verdict that fails, else which one that needs a look, of how many, and where.

    Problems that are of no single case fail a run as well: they are counted.

    Args:
        runs: one or more finished runs.
        results: their cases, each once.
    """
    problems = len({problem for run in runs for problem in run.problems})
    also = f"; {count(problems, 'problem')}" if problems else ""
    return _of_cases(runs, results) + also


def _of_cases(runs: Sequence[Run], results: Sequence[CaseResult]) -> str:
    if len(runs) == 1 and not runs[0].compared:
        return only_recorded(runs[0])
    where = " and ".join(machines(runs, results))
    place = f" on {where}" if where else ""
    if not results:
        return f"no performance case ran{place}"
    if failing := [each for each in results if each.failed or each.verdict in FAILING or not_judged(each)]:
        return f"{_told(failing)} of {len(results)}{place}"
    if odd := [result for result in results if result.verdict not in _CALM]:
        compared = any(result.verdict in _COMPARED for result in results)
        return f"nothing {'regressed' if compared else 'compared'}, {_told(odd)} of {len(results)}{place}"
    if improved := [result for result in results if result.verdict is Verdict.IMPROVED]:
        return f"nothing regressed, {_told(improved)} of {len(results)}{place}"
    judged = sum(result.verdict is not Verdict.SKIPPED for result in results)
    if not judged:
        return f"all {count(len(results), 'case')} skipped{place}"
    return f"nothing changed in {count(judged, 'case')}{place}"


def _told(results: Sequence[CaseResult]) -> str:
    return ", ".join(f"{len(cases)} {word}" for word, cases in by_verdict(results).items())


def machines(runs: Sequence[Run], results: Sequence[CaseResult]) -> list[str]:
    """Name the devices that cases ran on, each once; compile targets are counted."""
    names = {device.key: device.name for run in runs for device in run.hardware.devices}
    ran = {result.key for result in results}
    keys = [*(key for key in names if key in ran), *sorted(ran - names.keys())]
    targets = [key for key in keys if key.startswith(KEY_PREFIX)]
    found = list(dict.fromkeys(names.get(key, key) for key in keys if key not in targets))
    return [*found, count(len(targets), "compile target")] if targets else found
