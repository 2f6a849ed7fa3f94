"""How is a process of one side started, and what did it find out? The base's is led to its checkout."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import perfgate
from perfgate.ab import launch
from perfgate.ab.git import Base
from perfgate.errors import ReplicaError
from perfgate.model import Measurement
from perfgate.replicate import process
from perfgate.replicate.command import Launch
from perfgate.replicate.wire import with_outcome

#: The first process of a side cannot know how long a case takes.
FIRST_PATIENCE_S = 3600.0


#: Why a case could not be started, when its module was collected and does not have it.
ABSENT = "its module does not have it"


class NotTheBase(ReplicaError):
    """The base's process imported other code than the base's: nothing that it measured can be used."""


@dataclass(frozen=True)
class BaseLaunch(Launch):
    """Everything needed to start the base's processes.

    Args:
        ways: from the working tree to the checkout.
        task: file with what such a process has to know.
        base: the commit.
    """

    ways: launch.Ways = field(kw_only=True)
    task: Path = field(kw_only=True)
    base: Base = field(kw_only=True)

    def command(self, cases: Sequence[str], scratch: Path) -> list[str]:
        """Give the command that runs the modules of these cases in the checkout."""
        command = super().command(cases, scratch)
        at = command.index("pytest")
        # What the base cannot import must not keep it from running the rest.
        return [*command[:at], launch.__name__, *command[at + 1 :], "--continue-on-collection-errors"]

    def by_hand(self, case: str) -> str:
        """Give the command that a user would type, once the commit is checked out."""
        return f"git worktree add /tmp/base {self.base.commit[:12]}, and there: {super().by_hand(case)}"

    def variables(self, task: Path) -> dict[str, str]:
        """Give the environment: paths of the user's own are turned too."""
        variables = super().variables(task)
        given = [self.ways.turned(entry) for entry in variables.get("PYTHONPATH", "").split(os.pathsep) if entry]
        package = Path(perfgate.__file__).resolve().parent.parent
        own = [self.ways.turned(str(package))] if self.ways.leads_in(str(package)) else []
        if path := dict.fromkeys([*own, *given]):
            variables["PYTHONPATH"] = os.pathsep.join(path)
        return {**variables, launch.VARIABLE: str(self.task)}


def base_launch(head: Launch, base: Base, tree: Path) -> BaseLaunch:
    """Learn from the head's processes how to start the base's.

    Args:
        head: how a process of the head is started.
        base: the commit.
        tree: its checkout, with the measuring files of the head in it.
    """
    ways = launch.Ways(base.root, tree, launch.environments())

    def turned(argument: str) -> str:
        name, equals, value = argument.partition("=")
        if argument.startswith("-") and equals:
            return f"{name}={ways.turned(value)}"
        return ways.turned(argument)

    task = tree.parent / "task.json"
    task.write_text(json.dumps({"root": ways.root, "tree": ways.tree}), encoding="utf-8")
    cwd = Path(ways.turned(str(head.cwd)))
    cwd.mkdir(parents=True, exist_ok=True)
    return BaseLaunch(
        arguments=tuple(map(turned, head.arguments)),
        root=Path(ways.turned(str(head.root))),
        cwd=cwd,
        flags=head.flags,
        sees_cwd=head.sees_cwd,
        ways=ways,
        task=task,
        base=base,
    )


@dataclass
class Answers:
    """What the processes of one side found out, over all pairs.

    Attributes:
        measurements: by case, one a process.
        first: all that the first process of each case brought back, reports among it.
        missing: why a case could not be started, by case.
    """

    measurements: dict[str, list[Measurement]] = field(default_factory=dict)
    first: process.Findings = field(default_factory=process.Findings)
    missing: dict[str, str] = field(default_factory=dict)

    def take(self, findings: process.Findings, *, first: bool) -> None:
        """Add what one process found out."""
        found = dict(findings.measurements)
        for case, (outcome, reason, _) in findings.deaths.items():
            found[case] = with_outcome(Measurement(case=case, key=""), outcome, reason)
        for case, measurement in found.items():
            self.measurements.setdefault(case, []).append(measurement)
        if first:
            for name in ("measurements", "reports", "rounds", "deaths"):
                getattr(self.first, name).update(getattr(findings, name))


def measure(
    answers: Answers,
    groups: Sequence[Sequence[str]],
    started: Launch,
    *,
    reports: bool,
    patience_s: Callable[[str], float],
    progress: Callable[[str], None],
    run: Callable[..., process.Findings] = process.run,
) -> None:
    """Measure cases once more on one side, each group in a process of its own.

    Args:
        answers: what the side has found out so far; added to.
        groups: cases.
        started: how to start the side's processes.
        reports: whether these are the first processes, whose reports are the tests' own.
        patience_s: seconds that a case may take.
        progress: told which case is running.
        run: runs cases in a fresh process.

    Raises:
        NotTheBase: the base's process imported other code than the base's.
    """
    for group in groups:
        cases = [case for case in group if case not in answers.missing]
        if not cases:
            continue
        if isinstance(started, BaseLaunch):
            started.task.with_name(launch.ANSWER).unlink(missing_ok=True)
        output = ""
        try:
            findings = run(cases, started, reports=reports, patience_s=patience_s, progress=progress)
        except process.Unfinished as error:
            findings, output = error.findings, error.why
        answers.take(findings, first=reports)
        answer = launch.read_answer(started.task) if isinstance(started, BaseLaunch) else {}
        _check(answer)
        for case in cases:
            if case not in findings.measurements and case not in findings.deaths:
                answers.missing[case] = _why(case, answer, output)


def _check(answer: Mapping[str, Mapping[str, str]]) -> None:
    """Refuse what is no measurement of the base."""
    if strangers := answer.get("strangers"):
        name, file = next(iter(strangers.items()))
        others = f" and {len(strangers) - 1} more" if len(strangers) > 1 else ""
        raise NotTheBase(
            f"the base ran code of the working tree: {name} from {file}{others}",
            "What it measured is no measurement of the base, so nothing was compared.",
            "let the tests find the code by an import; a path that is written out leads to one side only",
        )
    if copies := answer.get("installed"):
        name, file = next(iter(copies.items()))
        raise NotTheBase(
            f"the tests import {name} from an installed copy, which is neither side's code: {file}",
            "Base and head would both run that copy, so nothing was compared.",
            "install the working tree itself: pip install -e .",
        )


def _why(case: str, answer: Mapping[str, Mapping[str, str]], output: str) -> str:
    """Say in a line why a case was not started."""
    for name, text in answer.get("uncollected", {}).items():
        if case.startswith((f"{name}::", f"{name}/")):
            return last_error(text)
    if case.partition("::")[0] in answer.get("collected", {}):
        return ABSENT
    return last_error(output) if output else "it was not collected"


def last_error(text: str) -> str:
    """Give the line of a traceback, or of pytest's output, that names the error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    raised = [line.removeprefix("E").strip() for line in lines if line.startswith("E ")]
    named = [line for line in lines if line.partition(":")[0].endswith(("Error", "Exception"))]
    return next(iter([*raised[-1:], *named[-1:], *lines[-1:]]), "it said nothing")
