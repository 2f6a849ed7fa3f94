"""How are configurations compiled on all processors before one process times them? Into Triton's cache.

The processes that compile have no GPU: they are those of the static gate, which run a launcher on pretended tensors for
the target of the card at hand. The process that times loads what they compiled; what they did not compile, whatever the
reason, it compiles itself. Whether they compile under the keys that real launches look for shows in the default, which
is launched for real before.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

from perfgate.static.answers import Answer, Question
from perfgate.static.candidate import Candidate, Card, question
from perfgate.static.pool import PATIENCE_S
from perfgate.static.processes import Child, Gone, NoCompiler, Parent
from perfgate.static.targets import of_device
from perfgate.tune.tunable import fields_of

#: More processes than this save little: there are seldom as many configurations at a time.
MOST_JOBS = 16
#: Configurations that compile in the time that it takes to start the processes.
_START = 12


class Ahead:
    """Compiles configurations of one kernel before they are timed; ends its processes when it is left.

    Args:
        kernel: as the command line names it.
        jobs: processes that compile; with one, nothing is compiled before.
        classes: classes of shapes that are to be tuned.
    """

    def __init__(self, kernel: str, jobs: int, classes: int) -> None:
        self._kernel = kernel
        self._jobs = jobs
        self._classes = classes
        self._parent = Parent()
        self._threads = ThreadPoolExecutor(max(jobs, 1), thread_name_prefix="perfgate-ahead")
        self._own = threading.local()
        self._started = False
        self._checked = ""
        self._problem = ""
        self._told = False

    def __enter__(self) -> Ahead:
        """Start nothing yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all processes."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._parent.end()
        self._threads.shutdown()

    def prepare(self, shape_class: str, default: Any, keys: Collection[str], configs: Sequence[Any]) -> None:
        """Compile configurations of a class of shapes; return when all are compiled that can be.

        Args:
            shape_class: name of the class.
            default: the default configuration, which was launched.
            keys: of the kernels that it launched, in Triton's cache.
            configs: to be timed next.
        """
        if self._jobs < 2 or self._problem or len(configs) < 2:
            return
        if not self._started and len(configs) * self._classes < _START:
            return
        self._started = True
        # Once for each class. It was compiled already, so this takes no time.
        check = [default] if shape_class != self._checked else []
        self._checked = shape_class
        try:
            questions = self._questions(shape_class, [*check, *configs])
            answers = list(self._threads.map(self._ask, questions))
        # Whatever it is, the process that times can compile by itself.
        except Exception as error:
            self._problem = _line(error)
            return
        # Others may not compile for good reasons, which the process that times tells.
        if check and not set(keys) <= set(answers[0].code):
            self._problem = answers[0].reason or "processes without a GPU compile something else than is launched"

    def problem_once(self) -> str:
        """Say why nothing is compiled before any more, the first time; else nothing."""
        if self._told:
            return ""
        self._told = bool(self._problem)
        return self._problem

    def _questions(self, shape_class: str, configs: Sequence[Any]) -> list[Question]:
        import torch
        from triton.runtime import driver

        made_for = driver.active.get_current_target()
        target = of_device(made_for.backend, made_for.arch)
        if target is None:
            raise LookupError(f"{made_for.backend} {made_for.arch} is no target of the static gate")
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        card = Card(
            properties.name, properties.multi_processor_count, properties.total_memory, properties.L2_cache_size
        )
        return [
            question(Candidate(self._kernel, shape_class, fields_of(config), card), target.name) for config in configs
        ]

    def _ask(self, asked: Question) -> Answer:
        """Have one configuration compiled, by the process of this thread."""
        try:
            if not hasattr(self._own, "child"):
                self._own.child = self._parent.child(asked.target)
            child: Child = self._own.child
            return child.ask([asked], PATIENCE_S)[0]
        except NoCompiler as missing:
            return Answer("no_compiler", str(missing))
        except Gone as gone:
            # The next configuration gets a new one.
            vars(self._own).pop("child", None)
            return Answer("crashed", str(gone))


def _line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
