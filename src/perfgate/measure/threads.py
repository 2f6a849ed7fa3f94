"""How many threads does a timed CPU case use? As many as asked for, one by default, and all of them again afterwards.

One by default: a case with as many threads as the machine has cores waits for the slowest of them, so any other
process that takes a core for a moment delays the whole call, and its time says more about the neighbours than about the
code. With one thread the scheduler has somewhere to go. More is a statement about the case: ``perf(threads=4)``.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

DEFAULT_THREADS = 1


@contextmanager
def pinned(threads: int = DEFAULT_THREADS) -> Iterator[dict[str, int]]:
    """Let torch, BLAS and OpenMP use this many threads inside the block.

    torch is set if it is imported, BLAS and OpenMP libraries if threadpoolctl is installed. Without threadpoolctl a
    BLAS of its own (numpy's) keeps its threads; ``OMP_NUM_THREADS=1`` in the environment pins it as well.

    Args:
        threads: at least 1.

    Returns:
        A context; it gives the threads of each library that was set, by name.
    """
    if threads < 1:
        raise ValueError(f"a call needs at least 1 thread, not {threads}")
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0
    try:
        threadpoolctl: Any = importlib.import_module("threadpoolctl")
    except ImportError:
        limits, found = None, {}
    else:
        limits = threadpoolctl.threadpool_limits(threads)
        found = {library: threads for library, had in limits.get_original_num_threads().items() if had is not None}
    try:
        if torch:
            torch.set_num_threads(threads)
            found["torch"] = threads
        yield found
    finally:
        if limits is not None:
            limits.restore_original_limits()
        if torch:
            torch.set_num_threads(before)
