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

#: What torch calls the recording of a CUDA graph among what it times, each time that it does one.
_RECORDING = "CUDAGraphNode.record"


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
        WrongImplementation: a graph was compiled meanwhile, or recorded as a CUDA graph: its time is in that of the
            block.
    """
    compiled_before, recorded_before = compiled_graphs(), recorded_graphs()
    yield
    if compiled := compiled_graphs() - compiled_before:
        raise WrongImplementation(f"torch.compile compiled {compiled} graphs while steps were timed")
    # Where torch has forgotten its times meanwhile it has forgotten what was compiled, too: that is seen above.
    if (recorded := recorded_graphs() - recorded_before) > 0:
        raise WrongImplementation(f"torch.compile recorded {recorded} CUDA graphs while steps were timed")


def compiled_graphs() -> int:
    """Count the graphs that torch.compile has compiled in this process since its counters were cleared."""
    # Importing it takes a second, and nothing was compiled before.
    dynamo: Any = sys.modules.get("torch._dynamo.utils")
    return 0 if dynamo is None else int(dynamo.counters["stats"]["unique_graphs"])


def recorded_graphs() -> int:
    """Count the CUDA graphs that torch.compile has recorded in this process since ``torch._dynamo.reset()``.

    What is compiled once may be recorded often: for other addresses, or after other graphs.
    """
    dynamo: Any = sys.modules.get("torch._dynamo.utils")
    return 0 if dynamo is None else len(dynamo.compilation_time_metrics.get(_RECORDING, ()))
