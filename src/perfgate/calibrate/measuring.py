"""How are the processes of a calibration run? One after the other, or one a GPU at a time; each is stored at once."""

from __future__ import annotations

import datetime
import queue
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from perfgate import outcomes
from perfgate.calibrate import samples
from perfgate.calibrate.again import Again
from perfgate.calibrate.pool import Found, Process
from perfgate.calibrate.selecting import Selected
from perfgate.calibrate.steps import Steps
from perfgate.replicate import process
from perfgate.replicate.command import Launch

#: Seconds that a case may take, all its steps together, before its process is taken to hang.
PATIENCE_S = 600.0

Tell = Callable[[str], None]


@dataclass(frozen=True)
class OnDevice(Launch):
    """A launch whose processes see one GPU."""

    device: str = ""

    def variables(self, task: Any) -> dict[str, str]:
        """Give the child's environment."""
        own = {"CUDA_VISIBLE_DEVICES": self.device} if self.device else {}
        return {**super().variables(task), **own}


@dataclass(frozen=True)
class Asked:
    """What one process is started for: its number in the pool, and the extra work."""

    number: int
    steps: Steps


@dataclass(frozen=True)
class Taken:
    """What one process found."""

    asked: Asked
    process: Process
    found: tuple[Found, ...]
    problems: tuple[str, ...] = ()


class _Stopped(Exception):
    """The calibration was interrupted."""


@dataclass
class Line:
    """The processes still to be run, and what came out of those that were.

    Args:
        selected: the cases.
        asked: what to start, in this order.
        commit: what is measured.
        devices: GPUs to use, one process at a time on each; () for this machine as it is.
        deadline: no process begins after this reading of the monotonic clock.
        tell: shows a line of progress.
        run: runs cases in a fresh process.
    """

    selected: Selected
    asked: Sequence[Asked]
    commit: str
    devices: Sequence[str] = ()
    deadline: float = float("inf")
    tell: Tell = lambda line: None
    run: Callable[..., process.Findings] = process.run
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stop: threading.Event = field(default_factory=threading.Event)
    _started: int = 0

    def results(self) -> Generator[Taken]:
        """Run them, and give what each found as soon as it has ended."""
        if len(self.devices) < 2:
            device = self.devices[0] if self.devices else ""
            while (asked := self._next()) is not None:
                yield self._one(asked, device)
            return
        done: queue.Queue[Taken | BaseException | None] = queue.Queue()
        # Daemons: a thread that waits for a case that hangs must not keep an interrupted run alive.
        threads = [threading.Thread(target=self._work, args=(device, done), daemon=True) for device in self.devices]
        for thread in threads:
            thread.start()
        running = len(threads)
        try:
            while running:
                taken = done.get()
                if taken is None:
                    running -= 1
                elif isinstance(taken, BaseException):
                    raise taken
                else:
                    yield taken
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(timeout=5)

    def _work(self, device: str, done: queue.Queue[Taken | BaseException | None]) -> None:
        try:
            while not self._stop.is_set() and (asked := self._next()) is not None:
                done.put(self._one(asked, device))
        except _Stopped:
            pass
        except BaseException as error:
            done.put(error)
        done.put(None)

    def _next(self) -> Asked | None:
        with self._lock:
            if self._started >= len(self.asked) or time.monotonic() > self.deadline:
                return None
            self._started += 1
            return self.asked[self._started - 1]

    def _one(self, asked: Asked, device: str) -> Taken:
        """Run the selection once: isolated cases in a process each, the others together."""
        cases, isolated = self.selected.cases, self.selected.isolated
        shared = [case for case in cases if case not in isolated]
        groups = ([shared] if shared else []) + [[case] for case in cases if case in isolated]
        where = f" on device {device}" if device else ""
        position = {case: place for place, case in enumerate(cases, 1)}

        def progress(case: str) -> None:
            if self._stop.is_set():
                raise _Stopped
            self.tell(f"process {asked.number + 1}{where}: case {position[case]} of {len(cases)}: {case}")

        launch = OnDevice(**vars(self.selected.launch), device=device)
        began, start = datetime.datetime.now(datetime.UTC), time.perf_counter()
        findings, problems = process.Findings(), []
        for group in groups:
            try:
                new = self.run(
                    group,
                    launch,
                    calibration=asked.steps.to_json(),
                    patience_s=lambda case: PATIENCE_S,
                    progress=progress,
                )
            except process.Unfinished as error:
                problems.append(str(error))
                new = error.findings
            findings.measurements |= new.measurements
            findings.calibrations |= new.calibrations
            findings.deaths |= new.deaths
        problems += (
            f"{case}: {outcomes.words(outcome)}: {reason}" for case, (outcome, reason, _) in findings.deaths.items()
        )
        found = []
        for case, measurement in findings.measurements.items():
            if measurement.outcome.value not in ("passed", "skipped"):
                problems.append(f"{case}: {outcomes.words(measurement.outcome)}: {measurement.reason}")
            beside = findings.calibrations.get(case, {"timed": "", "samples": None, "again": [], "problems": []})
            problems += (f"{case}: {problem}" for problem in beside["problems"])
            again = [Again(**{**each, "samples": samples.from_json(each["samples"])}) for each in beside["again"]]
            found.append(Found(measurement, beside["timed"], samples.from_json(beside["samples"]), again))
        process_ = Process(
            began=began.isoformat(timespec="seconds"),
            seconds=round(time.perf_counter() - start, 1),
            commit=self.commit,
            device=device,
            steps=asked.steps.labels,
        )
        return Taken(asked, process_, tuple(found), tuple(problems))


def ask(have: Sequence[Process], runs: int, injected: int, steps: Steps, *, memory: Sequence[str]) -> list[Asked]:
    """Say which processes are still to be run, so that those with extra work are spread evenly over all of them.

    Args:
        have: the processes of the pool.
        runs: how many there are to be.
        injected: how many of those are to measure with extra work too.
        steps: the slow-downs.
        memory: the memory steps, of which each process takes one in turn.
    """
    asked = []
    done = sum(bool(process.steps) for process in have)
    for number in range(len(have), runs):
        if done * runs < injected * (number + 1) and done < injected:
            asked.append(Asked(number, Steps(steps.time, tuple(memory[done % len(memory) :][:1]) if memory else ())))
            done += 1
        else:
            asked.append(Asked(number, Steps()))
    return asked
