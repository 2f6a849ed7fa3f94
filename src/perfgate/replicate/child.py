"""What does a fresh process do for the run that started it? It runs the named cases and hands over what it saw."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from perfgate.model import Measurement
from perfgate.naming import case_of
from perfgate.replicate.wire import Task, measurement_to_json

#: Builds the measurement of a finished case from the reports of its phases.
Finish = Callable[[pytest.Item, list[pytest.TestReport]], Measurement]

#: Options that name files of the whole run, or stop it: the ini file's ``addopts`` give them to a fresh process too.
WITHHELD = ("xmlpath", "htmlpath", "report_log", "stepwise", "stepwise_skip", "usepdb", "trace")


class ChildPlugin:
    """Pytest hooks of a fresh process: select, run, tell.

    Args:
        config: pytest's configuration.
        task: what the process was started for.
        finish: builds the measurement of a finished case.
    """

    def __init__(self, config: pytest.Config, task: Task, finish: Finish) -> None:
        self.config = config
        self.task = task
        self.finish = finish
        # Unbuffered and appended line by line: what was told survives the death of the process.
        self._file = os.open(task.events, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._case = ""
        self._reports: list[pytest.TestReport] = []
        self._collected: list[pytest.Item] = []
        _die_with_parent(task.parent)

    def tell(self, event: str, case: str, **values: Any) -> None:
        """Append one event."""
        line = json.dumps({"event": event, "case": case, **values}) + "\n"
        data = line.encode()
        while data:
            data = data[os.write(self._file, data) :]

    def progress(self, line: str) -> None:
        """Hand over a line that shows that the running case goes on."""
        self.tell("progress", self._case, line=line)

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Note each test before anything is deselected."""
        self._collected.append(item)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Keep the named cases, in the order of the task, whatever else was deselected: they were selected once."""
        found = {case_of(item): item for item in self._collected}
        session.items[:] = [found[case] for case in self.task.cases if case in found]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        """Tell which case is running, and what came out of it."""
        self._reports = []
        self._case = case_of(item)
        self.tell("start", self._case)
        # A protocol left by an exception (pytest.exit, say) tells nothing: the parent sees a case that did not end.
        done = yield
        if self.task.reports:
            from perfgate import finish
            from perfgate.replicate import rounds

            self.tell("rounds", self._case, rounds=rounds.to_json(item.stash.get(finish.FIXTURE, None)))
        if self.task.calibration is not None:
            from perfgate import finish
            from perfgate.calibrate import fixture

            self.tell("calibration", self._case, calibration=fixture.to_json(item.stash.get(finish.FIXTURE, None)))
        self.tell("measurement", self._case, measurement=measurement_to_json(self.finish(item, self._reports)))
        return done

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep a phase's report, and hand it over if asked."""
        self._reports.append(report)
        if self.task.reports:
            data: Mapping[str, Any] = self.config.hook.pytest_report_to_serializable(config=self.config, report=report)
            self.tell("report", self._case, report=data)


def _die_with_parent(parent: int) -> None:
    """Let Linux end this process when the run that started it dies: nobody else would end a case that hangs.

    Args:
        parent: id of the process of that run; 0 where it is not known.
    """
    if sys.platform != "linux":
        return
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    if parent and os.getppid() != parent:
        # It died while this process was starting, and the signal with it.
        os._exit(1)
