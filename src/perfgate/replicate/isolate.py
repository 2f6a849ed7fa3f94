"""How does a case run in a child process from the start, so that what it does to itself does not end the run?

Tests of one group take their turns in one child: the first of them has it started for all that come later in this run,
and each of those is told when its own turn comes. One that takes the child down ends for itself alone: another child
goes on with the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from _pytest.skipping import evaluate_xfail_marks

from perfgate.errors import ReplicaError
from perfgate.model import Measurement, Outcome
from perfgate.naming import case_of, group_of
from perfgate.outcomes import words
from perfgate.progress import show
from perfgate.replicate import process, rounds
from perfgate.replicate.command import Launch
from perfgate.selection import MISUSED

#: Seconds that an isolated case may take unless its marker says otherwise.
TIMEOUT_S = 600.0
#: What the process of a group has found out about tests whose turn is still to come.
_AHEAD: pytest.StashKey[dict[str, process.Findings]] = pytest.StashKey()


def timeout_of(item: pytest.Item) -> float | None:
    """Give the seconds that an isolated test may take; None when it is not marked ``isolate`` as can be."""
    marker = item.get_closest_marker("isolate")
    if marker is None or MISUSED in item.stash:
        return None
    return float(marker.kwargs.get("timeout", TIMEOUT_S))


def together(item: pytest.Item, items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Give a test and those behind it that share its process and have not run there yet.

    Args:
        item: an isolated test.
        items: the tests of this run, in their order.
    """
    wanted, ahead = group_of(item), _ahead(item.session)
    if not wanted or case_of(item) in ahead:
        return [item]
    later = items[items.index(item) + 1 :]
    return [item] + [
        each
        for each in later
        if timeout_of(each) is not None
        and group_of(each) == wanted
        and each.get_closest_marker("skip") is None
        and case_of(each) not in ahead
    ]


def known(item: pytest.Item) -> process.Findings | None:
    """Give what the process of its group has found out about a test, once; None when it did not come to it."""
    return _ahead(item.session).pop(case_of(item), None)


def _ahead(session: pytest.Session) -> dict[str, process.Findings]:
    return session.stash.setdefault(_AHEAD, {})


def run(
    item: pytest.Item,
    nextitem: pytest.Item | None,
    launch: Launch,
    timeouts_s: Mapping[str, float],
    *,
    active: bool,
    start: Callable[..., process.Findings] = process.run,
) -> tuple[list[pytest.TestReport], Measurement]:
    """Run one test in a child process and give its reports as if it had run here.

    Args:
        item: the test.
        nextitem: the test after it.
        launch: how to start a process.
        timeouts_s: seconds that the test, and those that share its process, may take.
        active: whether the gate is on in this run.
        start: runs cases in a fresh process.
    """
    case = case_of(item)
    findings = known(item)
    if findings is None:
        findings = process.Findings()
        try:
            start(
                list(timeouts_s),
                launch,
                reports=True,
                active=active,
                patience_s=timeouts_s.__getitem__,
                show=lambda line: show(item.config, line),
                findings=findings,
            )
        except ReplicaError as error:
            if case not in findings.measurements and case not in findings.deaths:
                findings.deaths[case] = (Outcome.CRASHED, error.what, error.why)
        finally:
            # Where this is interrupted, too: see `known`.
            ended = findings.measurements.keys() | findings.deaths.keys()
            _ahead(item.session).update(dict.fromkeys(ended, findings))
        known(item)
    # Fixtures of earlier tests that the next one does not share end here, as they would have in this test's teardown.
    item.session._setupstate.teardown_exact(nextitem)
    return brought_back(item, findings)


def brought_back(item: pytest.Item, findings: process.Findings) -> tuple[list[pytest.TestReport], Measurement]:
    """Give the reports and the measurement of a test that ran in another process, as if it had run here."""
    case = case_of(item)
    reports = [_revive(item, data) for data in findings.reports.get(case, [])]
    if case in findings.deaths:
        outcome, reason, output = findings.deaths[case]
        reports = [report for report in reports if report.when == "setup" and report.passed]
        report = _death(item, outcome, reason, output)
        reports.append(report)
        if report.skipped:
            outcome = Outcome.SKIPPED
        return reports, Measurement(case=case, key="", outcome=outcome, reason=reason)
    if case in findings.rounds:
        rounds.replay(item, findings.rounds[case])
    return reports, findings.measurements[case]


def _revive(item: pytest.Item, data: Mapping[str, Any]) -> pytest.TestReport:
    """Turn a report that travelled as JSON back into pytest's own."""
    report: pytest.TestReport = item.config.hook.pytest_report_from_serializable(config=item.config, data=data)
    # JSON knows no tuples, and pytest insists on one for the place and reason of a skip.
    if isinstance(report.longrepr, list):
        report.longrepr = tuple(report.longrepr)
    # The test may go by another name here than in its own process.
    report.nodeid = item.nodeid
    return report


def without_run(item: pytest.Item, reason: str, *, failed: bool) -> pytest.TestReport:
    """Build the report of a test that no process came to.

    Args:
        item: the test.
        reason: why.
        failed: whether that fails it; otherwise it is skipped.
    """
    path, line, _ = item.location
    return pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords=dict.fromkeys(item.keywords, 1),
        outcome="failed" if failed else "skipped",
        longrepr=reason if failed else (path, (line or 0) + 1, f"Skipped: {reason}"),
        when="call",
    )


def _death(item: pytest.Item, outcome: Outcome, reason: str, output: str) -> pytest.TestReport:
    """Build the report of a test whose process did not come back."""
    text = f"{words(outcome)}: {reason}"
    if output:
        text += f"\nThe end of what its process printed:\n{output}"
    report = pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords=dict.fromkeys(item.keywords, 1),
        outcome="failed",
        longrepr=text,
        when="call",
    )
    # As pytest does with an exception; that of a process that died has no type.
    expected = None if item.config.getoption("runxfail", False) else evaluate_xfail_marks(item)
    if expected is not None and expected.raises is None:
        report.outcome, report.wasxfail = "skipped", expected.reason
    return report
