"""What should the user type next? One command for each verdict."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence

from perfgate.model import FAILING, SEVERITY, CaseResult, Outcome, Run, Verdict
from perfgate.report.words import broke, from_folder, module

#: How a line with the next step starts.
HINT = "hint: "
# More ids than this make a command that nobody copies: the files are named instead.
_MANY = 3
_USUAL_PROCESSES = 12

# Under these a case that did not finish has to be looked at before anything else.
_EXPECTED_TO_RUN = frozenset({Verdict.OUTCOME_CHANGED, Verdict.NEW, Verdict.STALE})

_REMOVE = "list and remove unused baselines: perfgate prune"


def for_run(run: Run, folder: str = ".") -> list[str]:
    """Give the next steps of a run, the most severe first.

    Args:
        run: the run.
        folder: path of pytest's root from where the user will type.
    """
    done = set(run.recorded)
    open_cases = [result for result in run.results if result.case not in done]
    if run.base:
        steps = (
            for_sides(verdict, [result for result in run.results if result.verdict is verdict], run.base, folder)
            for verdict in SEVERITY
        )
        return list(dict.fromkeys(hint for step in steps for hint in step))
    hints = []
    for verdict in SEVERITY if run.compared else (Verdict.CORRUPT, Verdict.OUTCOME_CHANGED):
        group = [result for result in open_cases if result.verdict is verdict]
        if group:
            hints += for_cases(verdict, group, open_cases, folder, run.commit)
    if run.unused and _REMOVE not in hints:
        hints.append(_REMOVE)
    return list(dict.fromkeys(hints))


def for_sides(verdict: Verdict, group: Sequence[CaseResult], base: str, folder: str = ".") -> list[str]:
    """Give the next steps for cases of one verdict that were compared with a commit.

    Args:
        verdict: what they share.
        group: the cases.
        base: the ref, as the user named it.
        folder: path of pytest's root from where the user will type.
    """
    if verdict is Verdict.INCONCLUSIVE:
        # More pairs help only where there was one.
        group = [result for result in group if result.metrics]
    if not group:
        return []
    again = f"pytest --perf-ab={shlex.quote(base)}"
    where = _selection(group, folder)
    match verdict:
        case Verdict.REGRESSED:
            return [f"measure both sides again: {again}{where}"]
        case Verdict.INCONCLUSIVE:
            return [f"use more pairs: {again} --perf-processes={_more(group)}{where}"]
        case Verdict.THROTTLED:
            return [f"compare again when device and host are cool and idle: {again}{where}"]
        case Verdict.OUTCOME_CHANGED:
            what = "it alone to see its error" if len(group) == 1 else "them alone to see their errors"
            return [f"run {what}: pytest{where}"]
        case _:
            return []


def for_cases(
    verdict: Verdict,
    group: Sequence[CaseResult],
    everything: Sequence[CaseResult] = (),
    folder: str = ".",
    commit: str = "",
) -> list[str]:
    """Give the next steps for cases of one verdict.

    Args:
        verdict: what they share.
        group: the cases.
        everything: all cases of the run; a file that is recorded again takes the others in it along.
        folder: path of pytest's root from where the user will type.
        commit: that the cases ran at, "" if unknown.
    """
    if verdict is Verdict.INCONCLUSIVE and (base := _commit_to_take_turns_with(group, commit)):
        where = _selection(group, folder)
        return [f"compare with the baseline's commit, both in turn: pytest --perf-ab={base}{where}"]
    if verdict is Verdict.CORRUPT and (own := _own_hints(group)):
        return own
    broken = [result for result in group if verdict in _EXPECTED_TO_RUN and broke(result) and not _refused(result)]
    rest = [result for result in group if result not in broken]
    hints = []
    if broken:
        what = "it alone to see its error" if len(broken) == 1 else "them alone to see their errors"
        hints.append(f"run {what}: pytest{_selection(broken, folder)}")
    if verdict is Verdict.REMOVED and (less := [result for result in rest if _lacks_a_figure(result)]):
        again = f"pytest --perf-update=all{_selection(less, folder)}"
        hints.append(f"if that figure is no longer wanted, record the baseline without it: {again}")
        rest = [result for result in rest if result not in less]
    if rest and (step := _step(verdict, rest, everything, folder)):
        hints.append(step)
    return hints


def _refused(result: CaseResult) -> bool:
    """Tell whether the code under test refuses this device, which may be recorded, and was not known to run on it."""
    return result.outcome is Outcome.UNSUPPORTED and result.verdict is not Verdict.OUTCOME_CHANGED


def _own_hints(group: Sequence[CaseResult]) -> list[str]:
    """Give the next steps that the reasons of damaged baselines name, each on a line that starts with ``hint: ``."""
    lines = [
        line.removeprefix(HINT) for result in group for line in result.reason.splitlines() if line.startswith(HINT)
    ]
    return list(dict.fromkeys(lines))[:_MANY]


def _lacks_a_figure(result: CaseResult) -> bool:
    """Tell whether a case is there and only some figure of its baseline is not."""
    return any(metric.verdict is Verdict.REMOVED for metric in result.metrics)


def _step(verdict: Verdict, group: Sequence[CaseResult], everything: Sequence[CaseResult], folder: str) -> str:
    where = _selection(group, folder)
    match verdict:
        case Verdict.REGRESSED:
            return f"if the change is intended, record it: pytest --perf-update=all{where}"
        case Verdict.NEW:
            return f"record a baseline: pytest --perf-update=new{where}"
        case Verdict.STALE:
            return f"record the baseline again{_once_clean(group, everything)}: pytest --perf-update=all{where}"
        case Verdict.IMPROVED:
            return f"keep the improvement{_once_clean(group, everything)}: pytest --perf-update=all{where}"
        case Verdict.OUTCOME_CHANGED:
            return f"it runs now; keep that{_once_clean(group, everything)}: pytest --perf-update=all{where}"
        case Verdict.CORRUPT:
            return "restore the baseline file named above: git restore FILE"
        case Verdict.INCONCLUSIVE:
            return f"use more processes: pytest --benchmark-compare --perf-processes={_more(group)}{where}"
        case Verdict.THROTTLED:
            return f"compare again when device and host are cool and idle: pytest --benchmark-compare{where}"
        case Verdict.REMOVED:
            return _REMOVE
        case _:
            return ""


def _selection(group: Sequence[CaseResult], folder: str) -> str:
    """Name the cases as pytest arguments, with a leading space: ids, else files, else the folder they share."""
    ids = list(dict.fromkeys(result.case for result in group))
    if len(ids) > _MANY:
        ids = list(dict.fromkeys(map(module, ids)))
    if len(ids) > _MANY:
        ids = [os.path.commonpath(ids)]
    names = [from_folder(name, folder) for name in ids]
    return "".join(f" {shlex.quote(name)}" for name in names if name != os.curdir)


def _once_clean(group: Sequence[CaseResult], everything: Sequence[CaseResult]) -> str:
    """Warn when recording the files of these cases would also record one that fails."""
    ids = {result.case for result in group}
    files = {module(case) for case in ids}
    if len(ids) > _MANY and any(other.verdict in FAILING and module(other.case) in files for other in everything):
        return ", once nothing in these files regresses"
    return ""


def _commit_to_take_turns_with(group: Sequence[CaseResult], now: str) -> str:
    """Give the commit that all of these were recorded at, "" where more processes are the better advice.

    After a whole confirmation of wall times what is unclear is the machine, now and at recording. Two commits that run
    in turn share one machine.
    """
    commits = {result.baseline_commit for result in group}
    commit = commits.pop() if len(commits) == 1 else ""
    confirmed = all(result.key.startswith("cpu-") and result.processes >= _USUAL_PROCESSES for result in group)
    unclear = {each.name for result in group for each in result.metrics if each.verdict is Verdict.INCONCLUSIVE}
    differs = now not in ("", commit) and "+" not in commit
    return commit if confirmed and differs and unclear == {"wall_time"} else ""


def _more(group: Sequence[CaseResult]) -> int:
    used = max(result.processes for result in group)
    return _USUAL_PROCESSES if used < _USUAL_PROCESSES else 2 * used
