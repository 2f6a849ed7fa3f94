"""What happens to one case in one process? It is run, screened, held back if suspicious, confirmed and reported.

This is the part that runs wherever tests run: in the only process, or in each worker of pytest-xdist.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from perfgate import markers, outcomes, plan, recording, reporting
from perfgate.model import CaseResult, Hardware, Measurement, Outcome, Verdict
from perfgate.naming import case_of
from perfgate.options import RECORDED_PROCESSES, Settings
from perfgate.replicate import process
from perfgate.replicate.command import Launch
from perfgate.replicate.wire import measurement_to_json, with_outcome
from perfgate.selection import MISUSED

Tell = Callable[[str], None]


@dataclass
class Held:
    """A case under suspicion: its reports wait until fresh processes have spoken."""

    item: pytest.Item
    reports: list[pytest.TestReport]
    measurements: list[Measurement]
    result: CaseResult
    suspects: frozenset[str]


@dataclass
class Log:
    """What this process hands to whoever writes files: no test report carries it."""

    #: Measurements of fresh processes by case, to become baselines.
    recordings: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    #: What the reader should know beside the verdicts.
    remarks: list[str] = field(default_factory=list)
    #: Every case by module, before deselection, of the modules that were collected whole.
    collected: dict[str, list[str]] = field(default_factory=dict)


class Gate:
    """Runs cases, judges them, and lets no report of a suspicious case out before it is confirmed.

    Args:
        settings: what the user asked for.
        hardware: the machine.
        judge: gives the result of a case from its measurements: ``judge(measurements, last=, only=)``.
        stored: gives the outcome word stored for a case, or None: ``stored(key, case)``.
        launch: how to start fresh processes.
        run: runs cases in a fresh process (:func:`perfgate.replicate.process.run`).
        tell: shows a line of progress.
    """

    def __init__(
        self,
        settings: Settings,
        hardware: Hardware,
        *,
        judge: Callable[..., CaseResult],
        stored: Callable[[str, str], Outcome | None],
        launch: Launch,
        run: Callable[..., process.Findings] = process.run,
        tell: Tell = lambda line: None,
    ) -> None:
        self.settings = settings
        self.hardware = hardware
        self.log = Log()
        self._judge = judge
        self._stored = stored
        self._launch = launch
        self._run = run
        self._tell = tell
        self._held: list[Held] = []
        self._recordable: dict[str, pytest.Item] = {}
        self._durations_s: dict[str, float] = {}
        #: Cases that do not share a process with all others: with which ones they do.
        self._apart: dict[str, str] = {}
        #: Cases that a fresh process was started for and did not come to: no other one will.
        self._unreachable: set[str] = set()
        #: Recordings that no other process could tell otherwise.
        self._exact: dict[str, Measurement] = {}
        #: Launched kernels that the static gate was asked about.
        self._looked_at: set[str] = set()

    def protocol(
        self,
        item: pytest.Item,
        run_phases: Callable[[], tuple[list[pytest.TestReport], Measurement]],
        *,
        apart: str | None,
        profiled: Callable[[], bool] = lambda: False,
    ) -> None:
        """Run one case, and report it unless it is suspicious.

        Args:
            item: the case.
            run_phases: runs setup, call and teardown without reporting them.
            apart: names the cases that share a process with this one; None for all that need none of their own.
            profiled: tells, once the case has run, whether it started torch's profiler.
        """
        case = case_of(item)
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        begin = time.perf_counter()
        reports, measurement = run_phases()
        # Of a group the first test waits for the process of all.
        took_s = sum(report.duration for report in reports) if apart not in (None, case) else 0.0
        self._durations_s[case] = took_s or time.perf_counter() - begin
        if not measurement.key:
            # Its process died before it could say where it ran.
            device = markers.device_for({mark.name for mark in item.iter_markers()}, self.hardware)
            measurement = replace(measurement, key=device.key)
        if apart is not None or (profiled() and measurement.key != self.hardware.cpu.key):
            self._apart[case] = apart or case
        measurement = self._with_bandwidth(measurement)
        self._look_for_undeclared(item, measurement)
        last = self.settings.processes == 1 or not self.settings.compare or measurement.repeats
        result = self._judge([measurement], last=last)
        if self.settings.compare and not last and result.verdict is Verdict.INCONCLUSIVE:
            suspects = frozenset(m.name for m in result.metrics if m.verdict is Verdict.INCONCLUSIVE)
            self._held.append(Held(item, reports, [measurement], result, suspects))
            self._tell(f"{case}: suspicious, to be confirmed in fresh processes")
        else:
            self._emit(item, reports, result, measurement)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)

    def _look_for_undeclared(self, item: pytest.Item, measurement: Measurement) -> None:
        """Warn of kernels that this case launched in a form that no launch beside them declares."""
        # What a static case compiles is declared.
        if not measurement.kernels or measurement.repeats:
            return
        from perfgate.static import launched
        from perfgate.static.pool import shared
        from perfgate.static.undeclared_marker import markers_of

        try:
            allowed = markers_of(item)
        except pytest.UsageError as error:
            # The case has run: what is wrong with its marker must not cost its result.
            self.log.problems.append(str(error))
            return
        # Another test may allow what this one does not.
        keys = {f"{record} {allowed}": record for record in measurement.kernels.values()}
        records = [record for key, record in keys.items() if key not in self._looked_at]
        self._looked_at.update(keys)
        for line in launched.undeclared(records, shared(), allowed):
            try:
                item.warn(launched.UndeclaredLaunch(line))
            except launched.UndeclaredLaunch:
                # Warnings are errors in this run; here no test is left that could fail.
                self.log.problems.append(f"{case_of(item)}: {line}")

    def _with_bandwidth(self, measurement: Measurement) -> Measurement:
        if measurement.work is None or measurement.work.bytes is None or not measurement.metrics:
            return measurement
        from perfgate.measure import bandwidth

        if measurement.key == self.hardware.cpu.key:
            ceiling = bandwidth.cpu_copy_bandwidth()
        else:
            import torch

            ceiling = bandwidth.device_copy_bandwidth(torch.cuda.current_device())
        return replace(measurement, copy_bandwidth=ceiling)

    def _emit(
        self, item: pytest.Item, reports: list[pytest.TestReport], result: CaseResult, measurement: Measurement
    ) -> None:
        """Put the verdict on the test's own report and let the reports out."""
        settings = self.settings
        result = reporting.put_on(
            reports, result, compare=settings.compare, strict=settings.strict, folder=self._launch.folder
        )
        if self._wanted(item, result, measurement):
            if measurement.repeats:
                self._exact[case_of(item)] = measurement
            else:
                self._recordable[case_of(item)] = item
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)

    def _wanted(self, item: pytest.Item, result: CaseResult, measurement: Measurement) -> bool:
        """Whether this case is to be recorded."""
        if not self.settings.update or result.failed:
            return False
        if measurement.outcome not in self._allowed(item):
            return False
        if measurement.outcome is Outcome.PASSED and not measurement.metrics:
            return False
        return self.settings.update == "all" or self._stored(measurement.key, case_of(item)) is None

    def _allowed(self, item: pytest.Item) -> frozenset[Outcome]:
        """Give the outcomes that may become the baseline of a case."""
        if MISUSED in item.stash:
            return frozenset()
        # That the code under test refuses this device is what it says itself, not a way of failing.
        return plan.of(item).outcomes | {Outcome.PASSED, Outcome.UNSUPPORTED}

    def settle(self, interrupted: bool, check: Callable[[pytest.Item], None]) -> None:
        """Confirm what is suspicious, report it, then repeat what is to be recorded.

        Args:
            interrupted: the run stopped early: report what is held as it stands, start nothing.
            check: called before each report of a held case with its test; raises to stop.
        """
        from perfgate.verdict.case import totals

        undecided = list(self._held)
        done = 1
        stages = totals(self.settings.processes) if not interrupted else ()
        for stage, total in enumerate(stages):
            if not undecided:
                break
            for number in range(done + 1, total + 1):
                self._repeat(undecided, f"confirming {_count(undecided)}: process {number} of {total}")
            done = total
            for held in undecided:
                last = stage == len(stages) - 1
                if len(held.measurements) > 1:
                    held.result = self._judge(held.measurements, last=last, only=held.suspects)
                elif last:
                    held.result = replace(held.result, reason="no fresh process could run it to confirm this")
            undecided = [held for held in undecided if held.result.verdict is Verdict.INCONCLUSIVE]
        while self._held:
            held = self._held[0]
            check(held.item)
            if interrupted and held.result.verdict is Verdict.INCONCLUSIVE:
                held.result = replace(held.result, reason="the run stopped before this was confirmed")
            held.item.ihook.pytest_runtest_logstart(nodeid=held.item.nodeid, location=held.item.location)
            self._emit(held.item, held.reports, held.result, held.measurements[0])
            held.item.ihook.pytest_runtest_logfinish(nodeid=held.item.nodeid, location=held.item.location)
            self._held.pop(0)
        if not interrupted:
            self._record()

    def _repeat(self, undecided: Sequence[Held], what: str) -> None:
        """Add the measurements of one more fresh process to each case."""
        found = self._fresh([case_of(held.item) for held in undecided], what)
        for held in undecided:
            measurement = found.get(case_of(held.item))
            if measurement is not None:
                held.measurements.append(measurement)

    def _fresh(self, cases: Sequence[str], what: str) -> dict[str, Measurement]:
        """Measure cases once more: some in processes of their own, the others together in one."""
        groups: dict[str, list[str]] = {"": []}
        for case in cases:
            if case not in self._unreachable:
                groups.setdefault(self._apart.get(case, ""), []).append(case)
        found: dict[str, Measurement] = {}
        for group in filter(None, groups.values()):
            try:
                findings = self._run(
                    group,
                    self._launch,
                    patience_s=process.patience_from(self._durations_s),
                    progress=lambda case: self._tell(f"{what}: {case}"),
                )
            except process.Unfinished as error:
                self.log.problems.append(str(error))
                findings = error.findings
                self._unreachable.update(set(group) - findings.measurements.keys() - findings.deaths.keys())
            found |= findings.measurements
            for case, (outcome, reason, _) in findings.deaths.items():
                found[case] = with_outcome(Measurement(case=case, key=""), outcome, reason)
        return found

    def _record(self) -> None:
        """Repeat the cases to be recorded in fresh processes, and keep those that always ended the same way."""
        self.log.recordings |= {case: [measurement_to_json(each)] for case, each in self._exact.items()}
        cases, done = list(self._recordable), 0
        for group in recording.groups(cases, self._durations_s):
            done += len(group)
            which = _count(cases) if group == cases else f"up to {done} of {len(cases)}"
            taken: dict[str, list[Measurement]] = {case: [] for case in group}
            for number in range(1, RECORDED_PROCESSES + 1):
                wanted = [case for case in group if not recording.settled(taken[case])]
                if not wanted:
                    break
                found = self._fresh(wanted, f"recording {which}: process {number} of {RECORDED_PROCESSES}")
                for case, measurement in found.items():
                    taken[case].append(measurement)
            self._keep(taken)

    def _keep(self, taken: Mapping[str, Sequence[Measurement]]) -> None:
        """Keep what was recorded of cases that always ended as they may."""
        for case, measurements in taken.items():
            allowed = self._allowed(self._recordable[case])
            bad = next((m for m in measurements if m.outcome not in allowed), None)
            if bad is not None or (len(measurements) < RECORDED_PROCESSES and not recording.settled(measurements)):
                why = f"{outcomes.words(bad.outcome)}: {bad.reason}" if bad else "it did not come back"
                self.log.problems.append(f"{case}: not recorded: in a fresh process {why}")
            else:
                self.log.recordings[case] = [measurement_to_json(m) for m in measurements]


def _count(cases: Sequence[object]) -> str:
    return f"{len(cases)} case" + ("s" if len(cases) != 1 else "")
