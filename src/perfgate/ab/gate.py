"""How does a run compare the working tree with a commit? In pairs of fresh processes, base and head in turn.

No case runs in pytest's own process: cases are noted as they come up, and measured after the last test. The reports of
a test are those of the head's first process. One pair screens; what is undecided is repeated up to 4, 8 and 12 pairs,
and up to 18 and 24 where it looks slower than it may be. Which side goes first changes with each pair.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from perfgate import reporting, selection
from perfgate.ab import git, judge, overlay, remarks, sides, worktree
from perfgate.ab.answered import Answered
from perfgate.ab.git import Base
from perfgate.errors import PerfgateError
from perfgate.gate import Log
from perfgate.model import CaseResult, Hardware, Measurement, Verdict
from perfgate.naming import case_of
from perfgate.options import Settings
from perfgate.replicate import isolate, process
from perfgate.replicate.command import Launch
from perfgate.units import count

_UNFINISHED = "the run stopped before this was compared"


@dataclass
class Pending:
    """A case that waits for its verdict.

    Attributes:
        item: the test.
        timeout_s: seconds it may take in a process of its own; None when it shares one.
        result: what is known so far.
    """

    item: pytest.Item
    timeout_s: float | None
    result: CaseResult | None = None


class PairGate:
    """Takes cases, compares both sides of each, and lets its reports out with the verdict.

    Args:
        settings: what the user asked for.
        hardware: the machine.
        base: the commit to compare with.
        launch: how to start a process of the head.
        config: pytest's configuration.
        tell: shows a line of progress.
        run: runs cases in a fresh process (:func:`perfgate.replicate.process.run`).
    """

    def __init__(
        self,
        settings: Settings,
        hardware: Hardware,
        base: Base,
        *,
        launch: Launch,
        config: pytest.Config,
        tell: Callable[[str], None] = lambda line: None,
        run: Callable[..., process.Findings] = process.run,
    ) -> None:
        self.settings = settings
        self.hardware = hardware
        self.base = base
        self.log = Log()
        self._launch = launch
        self._config = config
        self._tell = tell
        self._run = run
        self._pending: list[Pending] = []
        self._taken = 0
        self._answered = Answered(base, hardware, config.rootpath, self.log.remarks)
        self.log.remarks += remarks.of_sides(base)

    def take(
        self,
        item: pytest.Item,
        nextitem: pytest.Item | None,
        run_phases: Callable[[], tuple[list[pytest.TestReport], Measurement]],
        timeout_s: float | None,
    ) -> bool:
        """Note a case, to be run once all tests have been; one that is skipped is done with.

        Args:
            item: the case.
            nextitem: the test after it.
            run_phases: runs setup, call and teardown without reporting them.
            timeout_s: seconds that it may take in a process of its own; None for one that shares it.
        """
        pending = Pending(item, timeout_s)
        if item.get_closest_marker("skip") is None:
            # As if it had run here: fixtures of earlier tests that the next one does not share end now.
            item.session._setupstate.teardown_exact(nextitem)
            self._pending.append(pending)
            return True
        reports, measurement = run_phases()
        result = CaseResult(
            measurement.case, measurement.key, Verdict.SKIPPED, measurement.outcome, 1, measurement.reason
        )
        self._report(item, reports, result)
        return True

    def settle(self, interrupted: bool, check: Callable[[pytest.Item], None]) -> None:
        """Compare what was noted, and report it.

        Args:
            interrupted: the run stopped early: report what is held as it stands, start nothing.
            check: called before each report with its test; raises to stop.
        """
        if self._pending and not interrupted:
            self._taken = len(self._pending)
            try:
                with self._sides() as started:
                    self._compare(started, check)
            except PerfgateError as error:
                self.log.problems.append(str(error))
                for pending in self._pending:
                    pending.result = self._answered.none(pending.item, f"not compared: {error.what}")
        self._let_out([*self._pending], check, interrupted=interrupted)
        if not interrupted:
            self._name_removed()

    @contextlib.contextmanager
    def _sides(self) -> Iterator[tuple[Launch, Launch]]:
        """Check the base out, and give how to start processes of base and head."""
        self._tell(f"checking out {self.base.name}")
        with worktree.checkout(self.base) as tree:
            root = self._config.rootpath
            more = [Path(path) for path in self._config.getini("perf_ab_measuring")]
            modules = dict.fromkeys(root / case_of(pending.item).split("::", 1)[0] for pending in self._pending)
            placed = overlay.apply(self.base.root, tree, modules, more, self._config.inipath)
            self.log.remarks += remarks.of_measuring(self.base, placed)
            yield sides.base_launch(self._launch, self.base, tree), self._launch

    def _compare(self, started: tuple[Launch, Launch], check: Callable[[pytest.Item], None]) -> None:
        """Run pairs until nothing is undecided, or no more are allowed."""
        stages = judge.stages(self.settings.processes)
        level, done = judge.alarm(self._taken), 0
        for stage in stages:
            for number in range(done + 1, stage + 1):
                self._pair(started, number, stage)
            done = stage
            decided = []
            closing = stage >= self.settings.processes
            for pending in self._pending:
                result = self._answered.verdict(pending.item, level=level, last=closing, looks=stages)
                if closing:
                    further = stage != stages[-1] and judge.looks_slower(result)
                    again = further and self._answered.repeatable(pending.item)
                else:
                    again = self._answered.open(pending.item, result)
                if not again:
                    decided.append(pending)
                pending.result = result
            self._let_out(decided, check)
            if not self._pending:
                return

    def _pair(self, started: tuple[Launch, Launch], number: int, total: int) -> None:
        """Measure what is undecided once more on both sides."""
        shared = [case_of(pending.item) for pending in self._pending if pending.timeout_s is None]
        alone = [[case_of(pending.item)] for pending in self._pending if pending.timeout_s is not None]
        groups = ([shared] if shared else []) + alone
        timeouts_s = {case_of(pending.item): pending.timeout_s for pending in self._pending}
        both = [(self._answered.of_base, started[0], "base"), (self._answered.of_head, started[1], "head")]
        what = f"comparing {count(len(self._pending), 'case')}"
        for answers, launch, side in both if number % 2 else reversed(both):
            sides.measure(
                answers,
                groups,
                launch,
                reports=number == 1,
                patience_s=self._patience(answers, timeouts_s),
                progress=lambda case, side=side: self._tell(  # type: ignore[misc]
                    f"{what}: {side} process of pair {number} of {total}: {case}"
                ),
                run=self._run,
            )

    def _patience(self, answers: sides.Answers, timeouts_s: Mapping[str, float | None]) -> Callable[[str], float]:
        """Give the seconds each case may take: from its first process on this side, where there was one."""
        took_s = {
            case: sum(report["duration"] for report in reports) for case, reports in answers.first.reports.items()
        }
        known = process.patience_from(took_s)
        return lambda case: timeouts_s[case] or (known(case) if case in took_s else sides.FIRST_PATIENCE_S)

    def _let_out(
        self, decided: Iterable[Pending], check: Callable[[pytest.Item], None], *, interrupted: bool = False
    ) -> None:
        """Report cases with their verdicts."""
        for pending in decided:
            item = pending.item
            check(item)
            result = pending.result or self._answered.none(pending.item, "")
            if interrupted and result.verdict is Verdict.INCONCLUSIVE and result.processes < self.settings.processes:
                result = replace(result, reason=_UNFINISHED)
            reports = self._reports(pending, result, interrupted=interrupted)
            if reports:
                self._report(item, reports, result)
            self._pending.remove(pending)

    def _report(self, item: pytest.Item, reports: list[pytest.TestReport], result: CaseResult) -> None:
        """Put the verdict on a test's reports, and let them out."""
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        strict, folder = self.settings.strict, self._launch.folder
        reporting.put_on(reports, result, compare=True, strict=strict, folder=folder, base=self.base.ref)
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)

    def _reports(self, pending: Pending, result: CaseResult, *, interrupted: bool) -> list[pytest.TestReport]:
        """Give the reports of a test: those of the head's first process, or why there are none.

        A test that an interrupted run did not come to has no report, as in any run.
        """
        case, head = case_of(pending.item), self._answered.of_head
        if case in head.first.measurements or case in head.first.deaths:
            return isolate.brought_back(pending.item, head.first)[0]
        if interrupted:
            return []
        return [isolate.without_run(pending.item, result.reason, failed=case in head.missing)]

    def _name_removed(self) -> None:
        """Name the tests of the commit that are no longer where this run looked for tests."""
        root, cwd = self._config.rootpath, self._config.invocation_params.dir
        stored = self._answered.stored
        modules = stored.gone(self._config.getini("python_files"), root)
        seen = [module for module in modules if selection.covered(root / module, self._config.args, cwd)]
        gone = stored.removed([*self.log.collected, *seen], root)
        self.log.remarks += remarks.of_removed(self.base, gone)


def make(
    config: pytest.Config, settings: Settings, hardware: Hardware, launch: Launch, tell: Callable[[str], None]
) -> tuple[PairGate, Base]:
    """Find the commit, before any test runs, and give what compares with it.

    Raises:
        SettingError: there is no such commit, or no repository.
    """
    base = git.resolve(settings.ab, config.rootpath, f"--perf-ab={settings.ab}")
    return PairGate(settings, hardware, base, launch=launch, config=config, tell=tell), base
