"""Has torch's profiler run in this process? On a GPU it does not quite end: later launches take longer.

It has CUPTI watch the calls to CUDA's runtime, even for ``ProfilerActivity.CPU`` alone, and leaves it attached when it
stops (https://github.com/pytorch/pytorch/issues/144455). On an H200 with torch 2.11 a loop of small kernels took 1.27
times as long after one profile as before, and did not get faster again; with ``TEARDOWN_CUPTI=1`` 0.9 to 1.1 times.

Counted for the whole process: what is left behind does not end with a run of pytest either.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from typing import Any

_starts = 0
#: torch's module whose announcements are counted.
_watched: Any = None


def starts() -> int:
    """Give how many profilers of torch were started since :func:`watch` was called first."""
    return _starts


def count() -> None:
    """Count a profiler that is started."""
    global _starts
    _starts += 1


def watch(*, load: bool = False) -> None:
    """Count from now on; calling it again changes nothing.

    Args:
        load: import torch for that, if it is installed. Otherwise counting waits until somebody has.
    """
    global _watched
    if load:
        with contextlib.suppress(ImportError):
            importlib.import_module("torch")
    torch = sys.modules.get("torch")
    profilers: Any = getattr(getattr(torch, "autograd", None), "profiler", None)
    # A private name: a torch without it is not watched, and no run ends for that.
    announced = getattr(profilers, "_run_on_profiler_start", None)
    if profilers is _watched or announced is None:
        return

    def counted() -> None:
        count()
        announced()

    # Every profiler of torch announces itself here.
    profilers._run_on_profiler_start = counted
    _watched = profilers
