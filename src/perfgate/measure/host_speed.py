"""How fast is the CPU that launches work on a device?

Wall time of many small kernels is the time that Python and the driver take to launch them, and hosts of equal GPUs
differ. On an H200 all 48 eager and TorchScript loops of HBV took longer than in their baselines of the day before, up
to 57 % (medians 9 and 19 %), while 41 captured graphs stayed within 7 % (medians 0.3 to 1.3 %): whether the host was
slower or the code, nothing told.

Many short looks, because a noisy one excuses a slow-down or hides that there is an excuse. Standard deviation between
24 processes of the speed that the same 5 ms give, on two virtual cores of 2.5 GHz (2026-11-23): with about one other
process on them 10 % from one long look on each side, 2.7 % from five and 1.5 % from 25; with two more that never wait
33, 3.2 and 1.9 %, and the long look gave 63 % of the speed, the short ones 99 %. So this is the speed of a core while
the thread has it. Time in which other processes have it is not seen, and excuses nothing. Nor is what another thread
of the same process takes, which is the code's own fault: beside matrix products in one, long looks gave 22 to 25
thousand loops a second, and short ones 44, as many as without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from perfgate.measure.reference_speed import ReferenceSpeeds, core_loop

#: The name of the speed in a metric's ``speeds``.
HOST = "host"
#: Looks before the block, and as many after it: some 3 ms each time.
LOOKS = 25
#: Rounds of the reference loop in one look.
ROUNDS = 4


class HostSpeed:
    """Look at the speed of this thread's core, before and after work on a device is timed."""

    def __init__(self) -> None:
        self._references = ReferenceSpeeds({HOST: core_loop})

    @contextmanager
    def around(self) -> Iterator[None]:
        """Look before and after the block, not in between: a device that waits for a look clocks down."""
        self._look()
        yield
        self._look()

    def speeds(self) -> Mapping[str, float]:
        """Give the median speed of the looks so far, in loops per second."""
        return self._references.speeds()

    def _look(self) -> None:
        for _ in range(LOOKS):
            self._references.measure(times=ROUNDS)
