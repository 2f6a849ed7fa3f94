"""How are calls timed while a model runs: by the wall on a CPU, by events in the queue of a GPU?"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from perfgate.measure.cpu_conditions import QueueWait


class Clock(Protocol):
    """Takes marks before and after a call, and gives the seconds between them once all work is done."""

    def before(self) -> Any:
        """Take the mark before a call."""

    def after(self) -> Any:
        """Take the mark after it."""

    def seconds(self, before: Any, after: Any) -> float:
        """Give the seconds between two marks."""


class WallClock:
    """Marks of a CPU: the wall, less the time in which this thread waited for a core that others had.

    The wall is the first thing read and the last: a core lost between wall and wait then counts as time, and no figure
    is ever too small.

    Args:
        waited: gives the seconds that the calling thread has waited so far.
        clock: gives seconds.
    """

    def __init__(
        self, waited: Callable[[], float] = lambda: 0.0, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._waited, self._clock = waited, clock

    def before(self) -> tuple[float, float]:
        """Read the wall, then the wait."""
        return self._clock(), self._waited()

    def after(self) -> tuple[float, float]:
        """Read the wait, then the wall."""
        waited = self._waited()
        return self._clock(), waited

    def seconds(self, before: tuple[float, float], after: tuple[float, float]) -> float:
        """Subtract."""
        return after[0] - before[0] - (after[1] - before[1])


class CudaClock:
    """Marks in the queue of a GPU: kernels alone count, the CPU that launches them runs ahead."""

    def before(self) -> Any:
        """Queue an event."""
        import torch

        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def after(self) -> Any:
        """Queue an event."""
        return self.before()

    def seconds(self, before: Any, after: Any) -> float:
        """Wait for the second event."""
        after.synchronize()
        return float(before.elapsed_time(after)) * 1e-3


@contextlib.contextmanager
def open_clock(device: str) -> Iterator[Clock]:
    """Open the clock of a device, for the calling thread."""
    if device.startswith("cuda"):
        yield CudaClock()
    else:
        with QueueWait() as waited:
            yield WallClock(waited)
