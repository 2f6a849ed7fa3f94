"""Which cases does a run profile, and what becomes of it? Those that ran, once all are measured, in fresh processes.

The process that measured a case never profiles it: what a profiler leaves behind there could slow the cases after it,
and what the call stores for its test would hold times taken under the profiler. The fresh process runs the test up to
its ``benchmark(...)``, so the call finds the fixtures and contexts that it was measured in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest

from perfgate import outcomes
from perfgate.baseline.layout import display_path
from perfgate.finish import FIXTURE
from perfgate.model import Outcome
from perfgate.naming import case_of
from perfgate.profile import summary
from perfgate.profile.case import PROPERTY
from perfgate.profile.summary import Row
from perfgate.replicate import isolate, process
from perfgate.selection import is_case, is_compiled
from perfgate.units import count

if TYPE_CHECKING:
    from perfgate.run import State


class ProfilesPlugin:
    """Pytest hooks of a run with ``--perf-profile``: in the only process, the controller or a worker of xdist.

    Args:
        state: the run.
        run: runs cases in a fresh process (:func:`perfgate.replicate.process.run`).
    """

    def __init__(self, state: State, run: Callable[..., process.Findings] = process.run) -> None:
        assert state.settings.profile is not None
        self.folder = state.settings.profile
        self.rows: list[Row] = []
        #: Why a case has no profile.
        self.problems: list[str] = []
        self._state = state
        self._run = run
        #: Seconds of the tests that ran to their end, by the name of their reports.
        self._ran: dict[str, float] = {}
        self._stopped = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note which tests ran to their end; one that regressed did too."""
        verdict = getattr(report, "perfgate", None) or {}
        if report.when == "call" and (report.passed or verdict.get("outcome") == Outcome.PASSED.value):
            self._ran[report.nodeid] = report.duration

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Any:
        """Profile after the last test, and after the gate has confirmed and recorded."""
        try:
            done = yield
        except BaseException:
            self._stopped = True
            raise
        if not self._state.is_controller:
            self.take(session.items)
        return done

    def take(self, items: Sequence[pytest.Item]) -> None:
        """Profile those of these tests that are cases and ran to their end."""
        ended = [item for item in items if item.nodeid in self._ran and is_case(item) and not is_compiled(item)]
        ran = [item for item in ended if _may_have_call(item)]
        for item in ended:
            if item not in ran:
                self._note_no_call(case_of(item))
        timeouts_s = {case_of(item): isolate.timeout_of(item) for item in ran}
        shared = [case for case, timeout_s in timeouts_s.items() if timeout_s is None]
        groups = ([shared] if shared else []) + [[case] for case in timeouts_s if case not in shared]
        patience_s = process.patience_from({case_of(item): self._ran[item.nodeid] for item in ran})
        for group in groups:
            try:
                findings = self._run(
                    group,
                    self._state.launch,
                    reports=True,
                    active=self._state.settings.active,
                    profile=str(self.folder),
                    patience_s=lambda case: timeouts_s[case] or patience_s(case),
                    progress=lambda case: self._state.tell(f"profiling {count(len(ran), 'case')}: {case}"),
                )
            except process.Unfinished as error:
                self.problems.append(str(error))
                findings = error.findings
            for case in group:
                self._note(case, findings)

    def _note(self, case: str, findings: process.Findings) -> None:
        properties = [pair for report in findings.reports.get(case, ()) for pair in report["user_properties"]]
        row = next((value for name, value in properties if name == PROPERTY), None)
        if row is not None:
            self.rows.append(Row(**row))
        elif case in findings.deaths:
            outcome, reason, _ = findings.deaths[case]
            self.problems.append(f"{case}: {outcomes.words(outcome)}: {reason}")
        elif case in findings.measurements:
            ended = findings.measurements[case]
            if ended.outcome is Outcome.PASSED:
                self._note_no_call(case)
            else:
                self.problems.append(f"{case}: {outcomes.words(ended.outcome)}: {ended.reason}")

    def _note_no_call(self, case: str) -> None:
        self.problems.append(f"{case} times no call, and marks none with benchmark.profile(...)")

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Take what a worker of xdist has profiled."""
        data = getattr(node, "workeroutput", {}).get(PROPERTY)
        if data is None:
            self.problems.append(f"worker {node.gateway.id} ended early: its cases are not profiled")
        else:
            self.rows += (Row(**row) for row in data["rows"])
            self.problems += data["problems"]

    def pytest_sessionfinish(self) -> None:
        """Write the summary, or hand over what it is made of."""
        if self._state.is_worker:
            data = {"rows": [asdict(row) for row in self.rows], "problems": self.problems}
            self._state.config.workeroutput[PROPERTY] = data  # type: ignore[attr-defined]
        elif self.rows or self.problems:
            try:
                summary.write(self.folder, self.rows)
            except OSError as error:
                self.problems.append(f"{summary.SUMMARY}: {type(error).__name__}: {error}")

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Name the folder, and what is not in it."""
        if self.rows and self._state.config.option.verbose >= 0:
            terminalreporter.write_line(f"perfgate: {count(len(self.rows), 'profile')} in {display_path(self.folder)}")
        if self._stopped:
            terminalreporter.write_line("perfgate: no profiles: the run stopped early")
        for problem in self.problems:
            terminalreporter.write_line(f"perfgate: not profiled: {problem}", yellow=True)


def _may_have_call(item: pytest.Item) -> bool:
    """Tell whether a test had a call to profile; of an isolated one, whose fixture was elsewhere, it is not known."""
    fixture = item.stash.get(FIXTURE, None)
    return fixture is None or fixture.has_profilable_call
