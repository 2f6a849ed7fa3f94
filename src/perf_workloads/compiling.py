"""What makes a first call bearable that compiles for minutes? It uses all processors, and shows that it goes on.

fla tries dozens of configurations of each kernel when it is first called with a shape, and compiles each of them, one
after another. Only what is told meanwhile can be shown: before the call nobody knows whether it will take long.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any
from unittest import mock

#: Threads that compile. Triton's frontend holds Python's lock for about a quarter of the time, so more gain nothing.
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
    earlier, number, one_at_a_time = knobs.compilation.listener, 0, threading.Lock()

    def compiled(*, metadata: dict[str, Any], **others: Any) -> None:
        nonlocal number
        with one_at_a_time:
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

    What is tried and chosen is the same: what does not compile is compiled again when it is tried, and fails then. A
    kernel of which a configuration has a hook (``pre_hook``), which may change what is compiled, is left alone.

    Args:
        threads: how many compile at the same time; with one, or without Triton, nothing is changed.
    """
    try:
        from triton.runtime import driver
        from triton.runtime.autotuner import Autotuner
    except ImportError:
        threads = 1
    if threads < 2:
        yield
        return
    prune, try_one = Autotuner.prune_configs, Autotuner._bench

    def remember(self: Any, others: Any) -> Any:
        self.to_be_tried = list(prune(self, others))
        return self.to_be_tried

    def compile_then_try(self: Any, *args: Any, config: Any, **others: Any) -> Any:
        configs = getattr(self, "to_be_tried", [])
        if len(configs) > 1 and config is configs[0] and not any(each.pre_hook for each in configs):
            arguments = {name: value for name, value in others.items() if name != "warmup"}
            device = driver.active.get_current_device()
            _finish(
                [pool.submit(warm_up, self.fn, device, args, {**arguments, **each.all_kwargs()}) for each in configs]
            )
        return try_one(self, *args, config=config, **others)

    def warm_up(kernel: Any, device: int, args: tuple[Any, ...], arguments: dict[str, Any]) -> None:
        driver.active.set_current_device(device)
        with contextlib.suppress(Exception):
            kernel.warmup(*args, **arguments)

    with (
        ThreadPoolExecutor(threads) as pool,
        mock.patch.object(Autotuner, "prune_configs", remember),
        mock.patch.object(Autotuner, "_bench", compile_then_try),
    ):
        yield


def _finish(compiling: Sequence[Future[None]]) -> None:
    """Wait for all; what has not begun when this is interrupted is not begun."""
    try:
        wait(compiling)
    finally:
        for each in compiling:
            each.cancel()
