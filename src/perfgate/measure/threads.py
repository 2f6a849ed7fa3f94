"""How many threads does a timed CPU case use? As many as asked for, one by default, and all of them again afterwards.

One by default: a case with as many threads as the machine has cores waits for the slowest of them, so any other
process that takes a core for a moment delays the whole call, and its time says more about the neighbours than about the
code. With one thread the scheduler has somewhere to go. More is a statement about the case: ``perf(threads=4)``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

DEFAULT_THREADS = 1


@contextmanager
def pinned(threads: int = DEFAULT_THREADS) -> Iterator[dict[str, int]]:
    """Let torch, BLAS and OpenMP use this many threads inside the block.

    torch is set if it is imported, and with it every BLAS and OpenMP library that is loaded.

    Args:
        threads: at least 1.

    Returns:
        A context; it gives the threads of each library that was set, by name.
    """
    import threadpoolctl

    if threads < 1:
        raise ValueError(f"a call needs at least 1 thread, not {threads}")
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0
    limits: Any = threadpoolctl.threadpool_limits(threads)
    found = {library: threads for library, had in limits.get_original_num_threads().items() if had is not None}
    try:
        if torch:
            torch.set_num_threads(threads)
            found["torch"] = threads
        yield found
    finally:
        limits.restore_original_limits()
        if torch:
            torch.set_num_threads(before)
