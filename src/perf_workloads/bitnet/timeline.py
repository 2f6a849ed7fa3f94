"""How does memory change while something runs? Sampled by a thread, not only where stages begin and end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from perf_workloads.bitnet.procfs import Memory, peak_rss, read_memory, reset_peak

INTERVAL_S = 0.05


@dataclass(frozen=True)
class Sample:
    """Memory at a time, in seconds since the timeline began."""

    time_s: float
    memory: Memory


class MemoryTimeline:
    """Samples memory in a thread between entering and leaving.

    Args:
        interval_s: seconds between samples.
        clock: gives seconds.
        look: reads memory.
    """

    def __init__(
        self,
        interval_s: float = INTERVAL_S,
        *,
        clock: Callable[[], float] = time.perf_counter,
        look: Callable[[], Memory] = read_memory,
    ) -> None:
        self._interval_s, self._clock, self._look = interval_s, clock, look
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory timeline", daemon=True)
        self.samples: list[Sample] = []
        self.peak_rss = 0
        #: Whether ``peak_rss`` is that of the timeline; otherwise of the whole process.
        self.own_peak = False

    def __enter__(self) -> MemoryTimeline:
        self._start_s = self._clock()
        self.own_peak = reset_peak()
        self.sample()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.sample()
        self.samples.sort(key=lambda sample: sample.time_s)
        self.peak_rss = peak_rss()

    def now_s(self) -> float:
        """Give the seconds since the timeline began."""
        return self._clock() - self._start_s

    def sample(self) -> Sample:
        """Look at memory now, and keep it in the timeline."""
        sample = Sample(self.now_s(), self._look())
        self.samples.append(sample)
        return sample

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            self.sample()
