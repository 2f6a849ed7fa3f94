"""Who compiles for this process? A few worker processes, started when the first question comes and kept for the run."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import asdict
from typing import Any

from perfgate.static.answers import Answer, Question, answer_from_json

#: Seconds that one launch may take to compile.
PATIENCE_S = 300.0
#: More workers than this need more memory than they save time.
_MOST = 4


class Pool:
    """Workers and the questions that wait for one.

    Args:
        workers: how many at most.
        patience_s: seconds that one question may take.
    """

    def __init__(self, workers: int = 1, patience_s: float = PATIENCE_S) -> None:
        self._waiting: list[tuple[Question, Future[Answer]]] = []
        self._known: dict[Question, Future[Answer]] = {}
        self._changed = threading.Condition()
        self._workers = max(workers, 1)
        self._patience_s = patience_s
        self._threads: list[threading.Thread] = []
        self._processes: list[_Worker] = []
        #: By target the worker that compiles for it.
        self._taken: dict[str, int] = {}
        self._closed = False
        atexit.register(self.close)

    def submit(self, questions: Iterable[Question]) -> None:
        """Take questions whose answers will be wanted, so that all workers have something to do."""
        for question in questions:
            self.future(question)

    def ask(self, question: Question) -> Answer:
        """Give the answer to a question; one that was asked before is not compiled again."""
        return self.future(question).result()

    def launches(self, place: str, target: str = "sm90") -> Answer:
        """Name the launches of a place, as the names of the answer's ``code``."""
        return self.ask(Question(place, "", target))

    def future(self, question: Question) -> Future[Answer]:
        """Give the answer to a question when it is there."""
        with self._changed:
            if question not in self._known:
                self._known[question] = Future()
                self._waiting.append((question, self._known[question]))
                if len(self._threads) < min(self._workers, len(self._waiting)):
                    number = len(self._threads)
                    thread = threading.Thread(target=self._work, args=(number,), name="perfgate-static", daemon=True)
                    self._threads.append(thread)
                    thread.start()
                self._changed.notify()
            return self._known[question]

    def close(self) -> None:
        """End all workers."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for worker in self._processes:
            worker.end()

    def _next(self, number: int) -> tuple[Question, Future[Answer]] | None:
        """Wait for a question: the oldest that is not of another worker's target, else the oldest of all."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            if self._closed:
                return None

            def of_another(entry: tuple[Question, Future[Answer]]) -> bool:
                return self._taken.get(entry[0].target, number) != number

            chosen = min(self._waiting, key=of_another)
            self._waiting.remove(chosen)
            self._taken.setdefault(chosen[0].target, number)
            return chosen

    def _work(self, number: int) -> None:
        """Answer questions with a worker of this thread's own."""
        worker: _Worker | None = None
        while (entry := self._next(number)) is not None:
            question, future = entry
            try:
                if worker is None:
                    worker = _Worker()
                    self._processes.append(worker)
                answer = worker.ask(question, self._patience_s)
            except _Gone as gone:
                worker = None
                answer = Answer("crashed", str(gone))
            except Exception as error:
                worker = None
                answer = Answer("failed", f"the worker could not be asked: {error!r}")
            future.set_result(answer)


class _Gone(Exception):
    """The worker ended before it answered."""


class _Worker:
    """One process that compiles."""

    def __init__(self) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        # Where kernels are interpreted in this process (its tests may want that), they are compiled in the worker.
        environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
        # A GPU is not needed, and one that is there must not be held.
        environment |= {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"}
        environment["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "perfgate.static.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            start_new_session=True,
        )
        self._send(sys.path)

    def ask(self, question: Question, patience_s: float) -> Answer:
        """Ask and wait.

        Raises:
            _Gone: the process ended, by itself or because it took too long.
        """
        out_of_time = threading.Event()

        def stop() -> None:
            out_of_time.set()
            self.end()

        timer = threading.Timer(patience_s, stop)
        timer.daemon = True
        timer.start()
        try:
            self._send(asdict(question))
            assert self._process.stdout is not None
            line = self._process.stdout.readline()
        except (BrokenPipeError, ValueError):
            line = b""
        finally:
            timer.cancel()
        if line.endswith(b"\n"):
            return answer_from_json(json.loads(line))
        if out_of_time.is_set():
            raise _Gone(f"the compiler took more than {patience_s:.0f} s")
        raise _Gone(f"the worker ended with exit code {self._process.wait()}\n{self._told()}".rstrip())

    def end(self) -> None:
        """End the process and its children."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, 9)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)

    def _send(self, value: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(value).encode() + b"\n")
        self._process.stdin.flush()

    def _told(self) -> str:
        """Give the end of what the process printed."""
        self._log.seek(0)
        return "\n".join(self._log.read().decode("utf-8", "replace").strip().splitlines()[-15:])


def usable_cpus() -> int:
    """Count the processors that workers may keep busy."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(count, _MOST)


_shared: dict[str, Pool] = {}


def shared() -> Pool:
    """Give the pool of this process; a worker of pytest-xdist has one worker, since there are others beside it."""
    if "pool" not in _shared:
        _shared["pool"] = Pool(1 if "PYTEST_XDIST_WORKER" in os.environ else usable_cpus())
    return _shared["pool"]


def compile_all(place: str, launches: Sequence[str], targets: Sequence[str]) -> dict[tuple[str, str], Answer]:
    """Compile launches for targets; the answers by launch and target."""
    questions = [Question(place, launch, target) for launch in launches for target in targets]
    pool = shared()
    pool.submit(questions)
    return {(each.launch, each.target): pool.ask(each) for each in questions}
