"""What becomes of the tests of this process? One state takes cases, settles, sums up and tells."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from perfgate import closing, gate, hardware, selection, turns
from perfgate.model import Hardware
from perfgate.naming import remember
from perfgate.options import Settings
from perfgate.replicate import command
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
            turns.release_device_memory()
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
