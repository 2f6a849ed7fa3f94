"""Has torch's profiler run in this process? On a GPU it does not quite end: later launches take longer.

It has CUPTI watch the calls to CUDA's runtime, even for ``ProfilerActivity.CPU`` alone, and leaves it attached when it
stops (https://github.com/pytorch/pytorch/issues/144455). On an H200 with torch 2.11, eager loops of small kernels took
1.3 to 1.6 times as long after another test of the same process had profiled a call of its own.
"""

from __future__ import annotations

import sys


class ProfilerWatch:
    """Counts the profilers of torch that were started in this process, from the first look on.

    Attributes:
        starts: how many there were.
    """

    def __init__(self) -> None:
        self.starts = 0
        self._watching = False

    def look(self) -> None:
        """Begin to count, if torch is there by now: it is not imported for that."""
        torch = sys.modules.get("torch")
        profilers = getattr(getattr(torch, "autograd", None), "profiler", None)
        if self._watching or profilers is None:
            return
        announced = profilers._run_on_profiler_start

        def count() -> None:
            self.starts += 1
            announced()

        # Every profiler of torch announces itself here.
        profilers._run_on_profiler_start = count
        self._watching = True
