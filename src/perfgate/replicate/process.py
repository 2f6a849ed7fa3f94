"""What did fresh processes find out about these cases, even when some of them died?"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perfgate.errors import ReplicaError
from perfgate.model import Measurement, Outcome
from perfgate.replicate.command import Launch
from perfgate.replicate.wire import Task, measurement_from_json, read_events

#: A case is given this many times the duration it had before, and never less than MINIMUM_S.
PATIENCE = 20.0
MINIMUM_S = 120.0
#: Starting an interpreter, importing torch and collecting may take this long.
START_S = 300.0
_POLL_S = 0.05

#: Told about the progress of a child: the case that is running now.
Progress = Callable[[str], None]


@dataclass
class Findings:
    """What one fresh process (or its successors, if cases killed it) reported."""

    measurements: dict[str, Measurement] = field(default_factory=dict)
    #: pytest's own reports by case, serialised, when the task asked for them.
    reports: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    #: What pytest-benchmark shows of a case, for those that it timed, when the task asked for reports.
    rounds: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: For a case that did not come back: how its process ended, and the end of what it printed.
    deaths: dict[str, tuple[Outcome, str, str]] = field(default_factory=dict)
    #: What a calibration asked for, by case: see :mod:`perfgate.calibrate.fixture`.
    calibrations: dict[str, dict[str, Any]] = field(default_factory=dict)


class Unfinished(ReplicaError):
    """Some cases could not be run; carries what was found out about the others."""

    def __init__(self, findings: Findings, what: str, why: str = "", hint: str = "") -> None:
        super().__init__(what, why, hint)
        self.findings = findings


def run(
    cases: Sequence[str],
    launch: Launch,
    *,
    reports: bool = False,
    active: bool = True,
    profile: str = "",
    calibration: Mapping[str, Any] | None = None,
    patience_s: Callable[[str], float] = lambda case: MINIMUM_S,
    progress: Progress = lambda case: None,
    show: Callable[[str], None] = lambda line: None,
    findings: Findings | None = None,
) -> Findings:
    """Run cases in a fresh process; start another one for the rest when a case takes the process down.

    Args:
        cases: node ids.
        launch: how to start a process.
        reports: also bring back pytest's reports.
        active: whether the gate is on in this run.
        profile: folder to write profiles to instead of measuring, or "".
        calibration: extra work that each case is measured again with, or None.
        patience_s: seconds that a case may take.
        progress: told which case is running.
        show: given the lines by which a case shows that it goes on.
        findings: added to, and given back; holds what is known when this is interrupted.

    Raises:
        ReplicaError: a process ended without having started any case; what others found is in its ``findings``.
    """
    findings = Findings() if findings is None else findings
    remaining = list(cases)
    while remaining:
        with tempfile.TemporaryDirectory(prefix="perfgate-", ignore_cleanup_errors=True) as folder:
            scratch = Path(folder)
            task = Task(tuple(remaining), str(scratch / "events"), reports, active, profile, calibration, os.getpid())
            task.save(scratch / "task.json")
            try:
                ended = _run_child(task, launch, scratch, patience_s, progress, show)
            finally:
                started = _collect(task, findings)
            if started is not None:
                findings.deaths[started] = (*ended.how, ended.output)
            before = len(remaining)
            remaining = [c for c in remaining if c not in findings.measurements and c not in findings.deaths]
            if len(remaining) == before:
                raise Unfinished(
                    findings,
                    f"a fresh process could not run {remaining[0]}"
                    + (f" and {len(remaining) - 1} more" if len(remaining) > 1 else "")
                    + f": it ended with exit code {ended.code}",
                    ended.output,
                    f"run it by hand: {launch.by_hand(remaining[0])}",
                )
    return findings


@dataclass(frozen=True)
class _End:
    """How a child process ended."""

    code: int
    timed_out_s: float | None
    output: str

    @property
    def how(self) -> tuple[Outcome, str]:
        if self.timed_out_s is not None:
            return Outcome.TIMED_OUT, f"no result after {self.timed_out_s:.0f} s"
        if self.code < 0:
            try:
                name = signal.Signals(-self.code).name
            except ValueError:
                name = "signal"
            return Outcome.CRASHED, f"killed by {name} (signal {-self.code})"
        return Outcome.CRASHED, f"the process ended with exit code {self.code}"


def _collect(task: Task, findings: Findings) -> str | None:
    """Take over what a child wrote; give the case it was in when it ended, if any."""
    running: str | None = None
    for event in read_events(Path(task.events)):
        case = event["case"]
        if event["event"] == "start":
            running = case
        elif event["event"] == "report":
            findings.reports.setdefault(case, []).append(event["report"])
        elif event["event"] == "rounds" and event["rounds"] is not None:
            findings.rounds[case] = event["rounds"]
        elif event["event"] == "calibration":
            findings.calibrations[case] = event["calibration"]
        elif event["event"] == "measurement":
            findings.measurements[case] = measurement_from_json(event["measurement"])
            running = None
    return running


def _run_child(
    task: Task,
    launch: Launch,
    scratch: Path,
    patience_s: Callable[[str], float],
    progress: Progress,
    show: Callable[[str], None],
) -> _End:
    """Start one child and wait for it; end it when a case takes too long."""
    log = scratch / "output"
    with log.open("wb") as output:
        child = subprocess.Popen(
            launch.command(task.cases, scratch),
            cwd=launch.cwd,
            env=launch.variables(scratch / "task.json"),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # A group of its own, so that what the child started ends with it.
            start_new_session=True,
        )
    timed_out: float | None = None
    with _ended(child):
        running, deadline, allowed = "", time.monotonic() + START_S, START_S
        seen = shown = 0
        while child.poll() is None:
            time.sleep(_POLL_S)
            size = _size(Path(task.events))
            if size != seen:
                seen = size
                lines = [event["line"] for event in read_events(Path(task.events)) if event["event"] == "progress"]
                for line in lines[shown:]:
                    show(line)
                shown = len(lines)
                now = _running(Path(task.events))
                if now and now != running:
                    running = now
                    progress(running)
                    allowed = patience_s(running)
                    deadline = time.monotonic() + allowed
            if time.monotonic() > deadline:
                timed_out = allowed
                break
    text = log.read_bytes().decode("utf-8", "replace")
    return _End(child.returncode, timed_out, "\n".join(text.strip().splitlines()[-25:]))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _running(path: Path) -> str | None:
    """Give the case that a child started last."""
    case = None
    for event in read_events(path):
        if event["event"] == "start":
            case = event["case"]
    return case


@contextlib.contextmanager
def _ended(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """End a child and everything it started when the block is left, by whatever way."""
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def patience_from(durations_s: Mapping[str, float]) -> Callable[[str], float]:
    """Give the time each case may take from the time it took in the first process."""
    return lambda case: max(MINIMUM_S, PATIENCE * durations_s.get(case, 0.0))
