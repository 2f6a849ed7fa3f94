"""Who compiles what, and when? Questions wait for workers, which take those that can be answered together."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future

from perfgate.static.answers import EVERY, Answer, Question
from perfgate.static.processes import Child, Gone, NoCompiler, Parent

#: Seconds that one launch may take to compile.
PATIENCE_S = 300.0
#: More workers than this need more memory than they save time.
_MOST = 4
#: Launches that are compiled before their figures are read together, which takes a second whatever their number.
_BATCH = 16


class Pool:
    """Questions, and threads that have them answered, each by a process for each target; started when questions come.

    Args:
        workers: how many compile at a time, at most.
        patience_s: seconds that one question may take.
    """

    def __init__(self, workers: int = 1, patience_s: float = PATIENCE_S) -> None:
        self._waiting: list[Question] = []
        self._known: dict[Question, Future[Answer]] = {}
        self._changed = threading.Condition()
        self._workers = max(workers, 1)
        self._patience_s = patience_s
        self._threads: list[threading.Thread] = []
        self._parent = Parent()
        #: By target the worker that compiles for it.
        self._taken: dict[str, int] = {}
        self._closed = False
        atexit.register(self.close)

    def submit(self, questions: Iterable[Question]) -> None:
        """Take questions whose answers will be wanted, so that all workers have something to do."""
        # All of them, before a worker takes the first: those of one kernel and target are answered together.
        with self._changed:
            for question in questions:
                self.future(question)

    def ask(self, question: Question) -> Answer:
        """Give the answer to a question; one that was asked before is not compiled again."""
        return self.future(question).result()

    def launches(self, place: str, target: str = "sm90") -> Answer:
        """Name the launches of a place: see :meth:`Answer.names`."""
        return self.ask(Question(place, "", target))

    def every_launch(self, place: str, target: str = "sm90") -> Answer:
        """Name the launches of all lists of a module, or of the one list that a place names, each with its place."""
        return self.ask(Question(place, "", target, EVERY))

    def known(self) -> dict[Question, Answer]:
        """Give all answers so far."""
        with self._changed:
            return {question: future.result() for question, future in self._known.items() if future.done()}

    def future(self, question: Question) -> Future[Answer]:
        """Give the answer to a question when it is there."""
        with self._changed:
            if question not in self._known:
                self._known[question] = Future()
                self._waiting.append(question)
                if len(self._threads) < min(self._workers, len(self._waiting)):
                    number = len(self._threads)
                    thread = threading.Thread(target=self._work, args=(number,), name="perfgate-static", daemon=True)
                    self._threads.append(thread)
                    thread.start()
                self._changed.notify()
            return self._known[question]

    def close(self) -> None:
        """End all processes."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._parent.end()

    def _next(self, number: int) -> list[Question]:
        """Wait for questions that can be answered together; give none when there will be no more.

        The oldest that is not of another worker's target comes first, else the oldest of all.
        """
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            if self._closed:
                return []

            def of_another(question: Question) -> bool:
                return self._taken.get(question.target, number) != number

            first = min(self._waiting, key=of_another)
            alike = [question for question in self._waiting if _kind(question) == _kind(first)][:_BATCH]
            for question in alike:
                self._waiting.remove(question)
            self._taken.setdefault(first.target, number)
            return alike

    def _work(self, number: int) -> None:
        """Answer questions, with children of this thread's own."""
        children: dict[str, Child] = {}
        while questions := self._next(number):
            for question, answer in zip(questions, self._answers(questions, children), strict=True):
                self._known[question].set_result(answer)

    def _answers(self, questions: Sequence[Question], children: dict[str, Child]) -> list[Answer]:
        """Have some questions on one target answered."""
        target = questions[0].target
        try:
            if target not in children:
                children[target] = self._parent.child(target)
            return children[target].ask(questions, self._patience_s)
        except NoCompiler as missing:
            return [Answer("no_compiler", str(missing))] * len(questions)
        except Gone as gone:
            children.pop(target, None)
            if len(questions) == 1:
                return [Answer("crashed", str(gone))]
            if gone.slow is not None:
                others = [question for number, question in enumerate(questions) if number != gone.slow]
                answers = self._answers(others, children)
                return [*answers[: gone.slow], Answer("crashed", str(gone)), *answers[gone.slow :]]
            # Which of them it was shows when each is asked alone.
            return [answer for question in questions for answer in self._answers([question], children)]
        except Exception as error:
            children.pop(target, None)
            return [Answer("failed", f"the compiling process could not be asked: {error!r}")] * len(questions)


def _kind(question: Question) -> tuple[str, bool, str, str]:
    return question.place, bool(question.launch), question.target, question.code


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
