"""Which words stand for verdicts, and how are cases counted in a sentence?"""

from __future__ import annotations

import os
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence

from perfgate import outcomes
from perfgate.model import SEVERITY, CaseResult, MetricVerdict, Outcome, Run, Verdict
from perfgate.units import count, figures
from perfgate.verdict import cycles

# What stands in an address between the name of a user and the host, or under a name that says so.
_PASSWORD = re.compile(r"(?<=:)(?P<user>//[^/:\s]*:)[^/\s]*@|(?P<name>[?&](?:password|passwd|token)=)[^&\s]*")


def verdict(word: Verdict) -> str:
    """Give a verdict as it is read in a sentence."""
    return word.value.replace("_", " ")


def not_judged(result: CaseResult) -> bool:
    """Tell whether a case was left out because its test failed by itself, which is no skip."""
    return result.verdict is Verdict.SKIPPED and broke(result)


def of_case(result: CaseResult) -> str:
    """Give a case's verdict as it is read in a sentence."""
    return "not judged" if not_judged(result) else verdict(result.verdict)


def by_verdict(results: Iterable[CaseResult]) -> dict[str, list[CaseResult]]:
    """Group cases under the words of their verdicts, the most severe first."""
    groups: dict[str, list[CaseResult]] = {}
    for result in sorted(results, key=lambda result: (SEVERITY.index(result.verdict), not broke(result))):
        groups.setdefault(of_case(result), []).append(result)
    return groups


def broke(result: CaseResult) -> bool:
    """Tell whether a case ran and ended otherwise than passed or skipped: it has no figures then."""
    # The outcome of a removed case is the stored one.
    return result.verdict is not Verdict.REMOVED and result.outcome not in (Outcome.PASSED, Outcome.SKIPPED)


def module(case: str) -> str:
    """Give the file of a node id."""
    return case.split("::", 1)[0]


def split(case: str) -> tuple[str, str]:
    """Give a node id as what stands before the name of its test, and the name with all of its parameters."""
    file, colons, rest = case.partition("::")
    if not colons:
        return "", case
    plain, bracket, parameters = rest.partition("[")
    classes, inner, name = plain.rpartition("::")
    return f"{file}{colons}{classes}{inner}", f"{name}{bracket}{parameters}"


def change(metric: MetricVerdict) -> str:
    """Write the change of a metric, and where it is not that of the values beside it, what it is in."""
    return figures(metric).change + (" in cycles" if cycles.speed(metric) is not None else "")


def in_cycles(metric: MetricVerdict) -> str:
    """Say what a change is in, and how fast the machine ran; empty where the change is that of the values beside it."""
    ran = cycles.speed(metric)
    return "" if ran is None else f"in cycles of the machine, which ran at {cycles.about(ran)}"


def from_folder(case: str, folder: str) -> str:
    """Give a node id, or a path, as pytest finds it from another folder than its root.

    Args:
        case: the node id.
        folder: path of the root from there.
    """
    path, colons, name = case.partition("::")
    return os.path.normpath(os.path.join(folder, path)) + colons + name


def typed(arguments: Iterable[object]) -> str:
    """Give the command line of a run, as it can be typed again; a password in an address is left out."""

    def hidden(match: re.Match[str]) -> str:
        return f"{match['user']}***@" if match["user"] else f"{match['name']}***"

    return shlex.join(["pytest", *(_PASSWORD.sub(hidden, str(argument)) for argument in arguments)])


def counts(results: Iterable[CaseResult]) -> dict[Verdict, int]:
    """Count cases by verdict, the most severe first; verdicts that nobody has are left out."""
    found = Counter(result.verdict for result in results)
    return {word: found[word] for word in SEVERITY if found[word]}


def compared(run: Run) -> str:
    """Say how many cases got which verdict on which hardware, in one line."""
    if not run.results:
        return "no performance case ran"
    return "; ".join(
        f"{', '.join(f'{len(cases)} {word}' for word, cases in by_verdict(group).items())} on {key}"
        for key, group in _by_key(run.results)
    )


def base(run: Run) -> str:
    """Name the commit that a run compared with; empty when it was stored baselines."""
    if not run.base:
        return ""
    return run.base_commit if run.base.startswith(run.base_commit) else f"{run.base} ({run.base_commit})"


def recorded(run: Run) -> str:
    """Say how many cases were recorded into which files, in one line; empty when there were none."""
    if not run.recorded:
        return ""
    if len(run.files) == 1:
        place = f" into {run.files[0]}"
    elif run.files:
        folder = os.path.commonpath(run.files)
        place = f" into {len(run.files)} files" + (f" in {folder}" if folder else "")
    else:
        place = ""
    return f"recorded {count(len(run.recorded), 'case')}{place}"


def only_recorded(run: Run) -> str:
    """Say what a run that compared nothing did with its cases, in one line."""
    done = set(run.recorded)
    rest = [result for result in run.results if result.case not in done]
    left = Counter(result.outcome for result in rest)
    parts = [recorded(run) or "recorded no case"]
    for outcome in Outcome:
        if number := left[outcome]:
            parts.append(
                f"{number} left as before" if outcome is Outcome.PASSED else f"{number} {outcomes.words(outcome)}"
            )
    return ", ".join(parts)


def _by_key(results: Sequence[CaseResult]) -> list[tuple[str, list[CaseResult]]]:
    groups: dict[str, list[CaseResult]] = {}
    for result in results:
        groups.setdefault(result.key, []).append(result)
    return list(groups.items())
