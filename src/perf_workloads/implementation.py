"""What do torch's operators and counters tell about what ran? For cases that say which implementation they measure."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


class WrongImplementation(AssertionError):
    """Something else ran than what the case is about."""


def operators(call: Callable[[], object]) -> Counter[str]:
    """Run a call and count what it had torch do, by name, on the CPU's side: launches, not what they launch.

    Not by torch's profiler: on a GPU that slows down what is timed later in the same process
    (:mod:`perfgate.measure.profilers`).
    """
    from torch.profiler import ExecutionTraceObserver

    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        observer = ExecutionTraceObserver().register_callback(str(trace))
        observer.start()
        try:
            call()
        finally:
            observer.stop()
            observer.unregister_callback()
        return Counter(node["name"] for node in json.loads(trace.read_text())["nodes"])


@contextlib.contextmanager
def nothing_compiled() -> Iterator[None]:
    """Check that torch.compile has compiled all that it needs before a block begins.

    Raises:
        WrongImplementation: a graph was compiled meanwhile: its time is in that of the block.
    """
    before = compiled_graphs()
    yield
    if compiled := compiled_graphs() - before:
        raise WrongImplementation(f"torch.compile compiled {compiled} graphs while steps were timed")


def compiled_graphs() -> int:
    """Count the graphs that torch.compile has compiled in this process since its counters were cleared."""
    # Importing it takes a second, and nothing was compiled before.
    dynamo: Any = sys.modules.get("torch._dynamo.utils")
    return 0 if dynamo is None else int(dynamo.counters["stats"]["unique_graphs"])
