"""How are calls timed while a model runs: by the wall on a CPU, by events in the queue of a GPU?"""

from __future__ import annotations

import contextlib
import itertools
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from perfgate.measure.cpu_conditions import QueueWait


class Clock(Protocol):
    """Takes marks before and after a call, and gives the seconds between them once all work is done."""

    def before(self) -> Any:
        """Take the mark before a call."""

    def after(self, before: Any) -> Any:
        """Take the mark after it; ``before`` is the one before it."""

    def seconds(self, before: Any, after: Any) -> float:
        """Give the seconds between two marks."""

    def late(self, before: Any, after: Any) -> bool:
        """Tell whether these seconds may hold a wait of a device for the CPU that launches its kernels."""


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

    def after(self, before: tuple[float, float]) -> tuple[float, float]:
        """Read the wait, then the wall."""
        waited = self._waited()
        return self._clock(), waited

    def seconds(self, before: tuple[float, float], after: tuple[float, float]) -> float:
        """Subtract."""
        return after[0] - before[0] - (after[1] - before[1])

    def late(self, before: tuple[float, float], after: tuple[float, float]) -> bool:
        """Tell that no other device is waited for."""
        return False


@dataclass(frozen=True)
class CudaMark:
    """A mark of :class:`CudaClock`.

    Attributes:
        event: in the queue of the GPU.
        queued_s: when it was queued, by the CPU's clock.
        late: of a mark after a call, whether the GPU came to the call before all of it was queued.
    """

    event: Any
    queued_s: float
    late: bool = False


def _event() -> Any:
    import torch

    return torch.cuda.Event(enable_timing=True)


def _spin(seconds: float) -> None:
    """Keep the device busy for so long, or longer: the most cycles a second that a GPU of a data centre runs at."""
    import torch

    torch.cuda._sleep(int(seconds * 2e9))


#: A device is kept busy for so many times as long as the last calls took to be queued, within these bounds.
_MARGIN, _LEAST_SPIN_S, _MOST_SPIN_S = 1.5, 20e-6, 2e-3
#: How long before the first call is known, and how many calls count. Their median, as first calls take seconds.
_FIRST_SPIN_S, _LAST_CALLS = 0.5e-3, 15


class CudaClock:
    """Marks in the queue of a GPU: kernels alone count, whatever the CPU takes to launch them.

    An eager model launches its kernels more slowly than the GPU works them off: two events around a layer measure the
    launches. So the GPU is first kept busy, for somewhat longer than a call takes to be queued. A call that was not
    queued in time is known by its first mark, which the GPU had passed by then: its seconds are those of its launches,
    and it is *late*. First calls are, where they compile. What spins make slower is the pass around the layers.

    Args:
        event: makes an event.
        spin: queues what keeps the GPU busy for so many seconds.
        clock: gives seconds.
    """

    def __init__(
        self,
        event: Callable[[], Any] = _event,
        spin: Callable[[float], None] = _spin,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._event, self._spin, self._clock = event, spin, clock
        self._queued_s: deque[float] = deque([_FIRST_SPIN_S / _MARGIN], maxlen=_LAST_CALLS)
        #: First marks that the GPU may not have passed, each with the spin before it.
        self._coming: deque[tuple[Any, float]] = deque()

    def before(self) -> CudaMark:
        """Keep the GPU busy, and queue an event."""
        while self._coming and self._coming[0][0].query():
            self._coming.popleft()
        # Spins that have not begun count. Else a GPU that is behind would fall back further, until the queue is full;
        # a CPU that waits for room in it would then seem to need ever longer ones.
        ahead_s = sum(spin_s for _, spin_s in itertools.islice(self._coming, 1, None))
        wanted_s = min(max(_MARGIN * statistics.median(self._queued_s), _LEAST_SPIN_S), _MOST_SPIN_S)
        spin_s = wanted_s - ahead_s if wanted_s - ahead_s >= _LEAST_SPIN_S else 0.0
        if spin_s:
            self._spin(spin_s)
        mark = self._mark()
        self._coming.append((mark.event, spin_s))
        return mark

    def after(self, before: CudaMark) -> CudaMark:
        """Queue an event, and look whether the GPU has passed the one before."""
        mark = self._mark(before)
        self._queued_s.append(mark.queued_s - before.queued_s)
        return mark

    def seconds(self, before: CudaMark, after: CudaMark) -> float:
        """Wait for the second event."""
        after.event.synchronize()
        return float(before.event.elapsed_time(after.event)) * 1e-3

    def late(self, before: CudaMark, after: CudaMark) -> bool:
        """Tell whether the GPU may have waited for a launch."""
        return after.late

    def _mark(self, before: CudaMark | None = None) -> CudaMark:
        event = self._event()
        event.record()
        return CudaMark(event, self._clock(), before is not None and bool(before.event.query()))


@contextlib.contextmanager
def open_clock(device: str) -> Iterator[Clock]:
    """Open the clock of a device, for the calling thread."""
    if device.startswith("cuda"):
        yield CudaClock()
    else:
        with QueueWait() as waited:
            yield WallClock(waited)
