"""What makes a first call bearable that compiles for minutes? It uses all processors, and shows that it goes on.

fla tries dozens of configurations of each kernel when it is first called with a shape, and compiles each of them, one
after another. Only what is told meanwhile can be shown: before the call nobody knows whether it will take long.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

#: Threads that compile. Triton's frontend holds Python's lock for about a fifth of the time, so more gain nothing.
MOST_THREADS = 8


@contextlib.contextmanager
def compiled_kernels_shown(progress: Callable[[str], None]) -> Iterator[None]:
    """Tell of each kernel that Triton compiles, or loads compiled, meanwhile. Where Triton is missing, none is.

    Args:
        progress: told one line a kernel; ``benchmark.progress`` shows one of them every few seconds.
    """
    try:
        from triton import knobs
    except ImportError:
        yield
        return
    earlier, number = knobs.compilation.listener, 0

    def compiled(*, metadata: dict[str, Any], **others: Any) -> None:
        nonlocal number
        number += 1
        progress(f"{number} kernels compiled or loaded, the last one {metadata['name']}")
        if earlier is not None:
            earlier(metadata=metadata, **others)

    knobs.compilation.listener = compiled
    try:
        yield
    finally:
        knobs.compilation.listener = earlier


@contextlib.contextmanager
def configurations_compiled_together(threads: int) -> Iterator[None]:
    """Have kernels under ``triton.autotune`` compile all their configurations at once, before they try the first one.

    What is tried and chosen is the same: a configuration that does not compile fails when it is tried, as it does
    without this. Where Triton is missing, or compiles in one thread only, nothing is changed.

    Args:
        threads: how many compile at the same time; with one, nothing is changed.
    """
    try:
        from triton.runtime._async_compile import AsyncCompileMode
        from triton.runtime.autotuner import Autotuner
    except ImportError:
        yield
        return
    try_one = Autotuner._bench

    def compile_then_try(self: Any, *args: Any, config: Any, **others: Any) -> Any:
        configs = self.prune_configs(others)
        if config is configs[0]:
            arguments = {name: value for name, value in others.items() if name != "warmup"}
            with AsyncCompileMode(pool, ignore_errors=True):
                for each in configs:
                    self.fn.warmup(*args, **arguments, **each.all_kwargs())
        return try_one(self, *args, config=config, **others)

    if threads < 2:
        yield
        return
    with ThreadPoolExecutor(threads) as pool, mock.patch.object(Autotuner, "_bench", compile_then_try):
        yield
