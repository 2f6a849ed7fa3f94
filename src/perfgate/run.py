"""What becomes of the tests of this process? One state takes cases, settles, sums up and tells."""

from __future__ import annotations

import functools
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.runner import runtestprotocol
from _pytest.skipping import evaluate_skip_marks

from perfgate import closing, gate, hardware, markers, plan, selection
from perfgate.finish import finish
from perfgate.measure import profilers
from perfgate.model import Hardware, Measurement
from perfgate.naming import case_of, group_of, remember
from perfgate.options import Settings
from perfgate.replicate import command, isolate
from perfgate.replicate.command import Launch

if TYPE_CHECKING:
    from perfgate.ab.gate import PairGate
    from perfgate.ab.git import Base


class State:
    """The run as this process sees it.

    Args:
        config: pytest's configuration.
        settings: what the user asked for.
    """

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self.config = config
        self.settings = settings
        self.is_worker = hasattr(config, "workerinput")
        self.is_controller = not self.is_worker and config.getoption("dist", "no") != "no"
        self.gate: gate.Gate | PairGate | None = None
        #: The commit to compare with instead of stored baselines.
        self.base: Base | None = None
        self.modules: set[str] = set()
        #: Whether cases are measured for the gate here: by this run, or for the run that started this process.
        self.measures = settings.active
        #: Where this process writes profiles instead of measuring, when it was started for that.
        self.profile: Path | None = None
        #: Extra work that a calibration measures each case again with, when it started this process.
        self.calibration: Mapping[str, Any] | None = None
        #: Where the tests of the cases are, as their reports say it.
        self.places: dict[str, tuple[str, int | None]] = {}
        self._told = ""
        self._failure: Exception | None = None
        self._began = time.time()
        # The controller runs no tests, and a fresh process has its own plugin.
        if settings.ab and not settings.replica:
            from perfgate.ab import gate as pairs

            self.gate, self.base = pairs.make(config, settings, self.hardware, self.launch, self.tell)
        elif settings.active and not settings.replica and not self.is_controller:
            self.gate = gate.Gate(
                settings,
                self.hardware,
                judge=self.shelf.judge,
                stored=self.shelf.outcome,
                launch=self.launch,
                tell=self.tell,
            )

    @functools.cached_property
    def hardware(self) -> Hardware:
        """The machine."""
        return hardware.detect()

    @functools.cached_property
    def launch(self) -> Launch:
        """How to start fresh processes of this run."""
        return command.from_config(self.config)

    @functools.cached_property
    def shelf(self) -> Any:
        """The stored baselines."""
        from perfgate.baseline.store import BaselineStore
        from perfgate.book import Shelf

        return Shelf(BaselineStore(self.settings.baselines))

    @functools.cached_property
    def book(self) -> Any:
        """The results of the run, where files are written."""
        from perfgate.book import Book
        from perfgate.report.words import typed

        command = typed(self.config.invocation_params.args)
        book = Book(self.settings, self.hardware, self.shelf, self.config.rootpath, self._began, command)
        book.base = self.base
        return book

    @property
    def writes(self) -> bool:
        """Whether this process sums the run up and writes files."""
        return self.settings.active and not self.settings.replica and not self.is_worker

    def header(self) -> str | None:
        """Give the line of pytest's header."""
        if not self.writes or self.config.option.verbose < 0:
            return None
        keys = ", ".join(device.key for device in self.hardware.devices)
        if self.base is not None:
            return f"perfgate: {keys}; {self.base.told()}"
        folder = os.path.relpath(self.settings.baselines, self.config.rootpath)
        return f"perfgate: {keys}; baselines in {folder}"

    def note_collected(self, items: list[pytest.Item]) -> None:
        """Remember what tests are called, and the cases of modules that were collected whole."""
        remember(items)
        # --last-failed leaves tests out while modules are still being collected.
        if self.gate is None or self.config.getoption("lf", False):
            return
        cases = selection.by_module(items)
        root, cwd = self.config.rootpath, self.config.invocation_params.dir
        for module in sorted(self.modules):
            if selection.covered(root / module, self.config.args, cwd):
                self.gate.log.collected[module] = cases.get(module, [])

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note each module that was collected without an error."""
        if report.passed and report.nodeid.endswith(".py"):
            self.modules.add(report.nodeid)

    def protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run a case of the gate or an isolated test; None for all others."""
        skipped = item.get_closest_marker("skip") is not None
        timeout_s = None if self.settings.replica or skipped else isolate.timeout_of(item)
        gated = self.gate is not None and selection.is_case(item)
        fresh = self.settings.replica and selection.is_case(item)
        # Of a group, whatever starts a profiler counts, be it a case or not, and on the GPU or not.
        grouped = self.settings.replica and bool(group_of(item)) and self.hardware.accelerator is not None
        profilers.watch(load=grouped or ((gated or fresh) and self._on_gpu(item)))
        if timeout_s is None and not gated:
            return None
        timeouts_s = {} if timeout_s is None else self._timeouts(item)
        if timeout_s is None and self._slowed_down(item):
            self.tell(f"{item.nodeid}: in a process of its own, torch's profiler ran in this one")
            timeout_s = math.inf
            timeouts_s = {case_of(item): math.inf}
        before = profilers.starts()

        def run_phases() -> tuple[list[pytest.TestReport], Measurement]:
            if timeout_s is not None:
                _release_device_memory()
                _stop_timer(item)
                return isolate.run(item, nextitem, self.launch, timeouts_s, active=self.measures)
            reports = runtestprotocol(item, log=False, nextitem=nextitem)
            return reports, finish(item, reports, self.hardware)

        if gated and not isinstance(self.gate, gate.Gate):
            assert self.gate is not None
            return self.gate.take(item, nextitem, run_phases, timeout_s)
        self._report(item, run_phases, isolated=timeout_s is not None, profiled=lambda: profilers.starts() > before)
        return True

    def _report(
        self,
        item: pytest.Item,
        run_phases: Callable[[], tuple[list[pytest.TestReport], Measurement]],
        *,
        isolated: bool,
        profiled: Callable[[], bool] = lambda: False,
    ) -> None:
        """Let a test run, and let its reports out: a case of the gate by way of the gate."""
        if isinstance(self.gate, gate.Gate) and selection.is_case(item):
            apart = (group_of(item) or case_of(item)) if isolated else None
            self.gate.protocol(item, run_phases, apart=apart, profiled=profiled)
            return
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in run_phases()[0]:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)

    def report_known(self, session: pytest.Session) -> None:
        """Report the tests that have ended in the process of their group, where an interrupt came before their turn."""
        # A worker of xdist shares no process, and reports only what its controller asked for.
        for item in () if self.is_worker else session.items:
            findings = isolate.known(item)
            if findings is not None:
                self._report(item, functools.partial(isolate.brought_back, item, findings), isolated=True)

    def _timeouts(self, item: pytest.Item) -> dict[str, float]:
        """Give the seconds that an isolated test, and each one that shares its process, may take, by case."""
        # A worker of xdist does not know which of the tests behind this one are its own.
        sharing = [item] if self.is_worker else isolate.together(item, item.session.items)
        if self.base is not None:
            # Its cases are measured in pairs, after the last test.
            sharing = [each for each in sharing if each is item or not selection.is_case(each)]
        return {case_of(each): isolate.timeout_of(each) or 0.0 for each in sharing}

    def _slowed_down(self, item: pytest.Item) -> bool:
        """Whether launches count in a case that is marked for a GPU, and a profiler has run in this process."""
        if not profilers.starts() or self.settings.replica or not isinstance(self.gate, gate.Gate):
            return False
        if selection.MISUSED in item.stash or evaluate_skip_marks(item) is not None:
            return False
        return plan.of(item).clock != "device" and self._on_gpu(item)

    def _on_gpu(self, item: pytest.Item) -> bool:
        """Whether its markers put a case on a GPU of this machine."""
        names = {mark.name for mark in item.iter_markers()}
        return markers.device_for(names, self.hardware).kind != "cpu"

    def settler(self, session: pytest.Session) -> Callable[[bool], None]:
        """Give what is to be done after the last test: confirm, report, record."""

        def check(item: pytest.Item) -> None:
            if self.is_worker:
                from perfgate import xdist

                xdist.point_at(self.config, session.items.index(item))
            elif session.shouldfail:
                raise session.Failed(session.shouldfail)

        def settle(interrupted: bool) -> None:
            if self.gate is None:
                return
            _release_device_memory()
            self.gate.settle(interrupted, (lambda item: None) if interrupted else check)
            if session.shouldfail and not interrupted and not self.is_worker:
                raise session.Failed(session.shouldfail)

        return settle

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the verdict that travels with a report."""
        data = getattr(report, "perfgate", None)
        if data is not None and self.writes:
            self.book.add(data)
            self.places[data["case"]] = report.location[:2]

    def close(self, session: pytest.Session, exitstatus: int) -> None:
        """Sum the run up where files are written; hand over everything else.

        A failure must hide neither that tests failed nor pytest's summary: it is told there.
        """
        try:
            self._close(session, exitstatus)
        except Exception as error:
            session.exitstatus = closing.exit_code(error, exitstatus)
            self._failure = error
            if self.is_worker:
                from perfgate import xdist

                xdist.hand_over(self.config, gate.Log(problems=["\n".join(closing.told(error))]))

    def _close(self, session: pytest.Session, exitstatus: int) -> None:
        if self.gate is not None and self.is_worker:
            from perfgate import xdist

            xdist.hand_over(self.config, self.gate.log)
        if not self.writes or self.config.option.collectonly:
            return
        if self.gate is not None:
            self.book.absorb(self.gate.log)
        complete = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)
        self.book.close(complete=complete)
        if self.book.failed() and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def summary(self, reporter: pytest.TerminalReporter) -> None:
        """Print the verdicts, and what went wrong at the end."""
        from perfgate.report import terminal

        lines: list[terminal.Line] = []
        # A run that could not be summed up may have no book.
        book = vars(self).get("book")
        if book is not None and book.run is not None:
            folder = os.path.relpath(self.config.rootpath, self.config.invocation_params.dir)
            lines += terminal.lines(book.run, self.config.option.verbose, self.settings.strict, folder)
            if self.settings.github:
                from perfgate.report import github

                where = (self.places, self.config.rootpath)
                told = github.annotate(book.run, *where, strict=self.settings.strict, folder=folder)
                lines += map(terminal.Line, told)
        if self._failure is not None:
            lines += (terminal.Line(line, {"red": True}) for line in closing.told(self._failure))
        if lines:
            reporter.section("perfgate", sep="=")
        for line in lines:
            reporter.write_line(line.text, **line.markup)

    def tell(self, line: str) -> None:
        """Show progress: on a terminal each step on one line, elsewhere each fresh process once."""
        reporter = self.config.pluginmanager.getplugin("terminalreporter")
        if reporter is None or self.is_worker or self.config.option.verbose < 0:
            return
        if reporter.isatty:
            reporter.rewrite(f"perfgate: {line}"[: reporter._tw.fullwidth - 1], erase=True)
            return
        step = line.split(": ", 1)[0] if "process " not in line else ": ".join(line.split(": ")[:2])
        if step != self._told:
            self._told = step
            reporter.ensure_newline()
            reporter.write_line(f"perfgate: {step}" if "process " in line else f"perfgate: {line}")


def _stop_timer(item: pytest.Item) -> None:
    """End the clock of pytest-timeout for a test that runs elsewhere, and maybe with others: it has one there."""
    stop = getattr(item.ihook, "pytest_timeout_cancel_timer", None)
    if stop is not None:
        stop(item=item)


def _release_device_memory() -> None:
    """Give cached device memory back, so that fresh processes find room."""
    import sys

    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
