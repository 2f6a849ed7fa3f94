"""How fast is the CPU that launches work on a device?

Wall time of many small kernels is the time that Python and the driver take to launch them, and hosts of equal GPUs
differ. On an H200 all 48 eager and TorchScript loops of HBV took longer than in their baselines of the day before, up
to 57 % (medians 9 and 19 %), while 41 captured graphs stayed within 7 % (medians 0.3 to 1.3 %): whether the host was
slower or the code, nothing told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from perfgate.measure.reference_speed import ReferenceSpeeds, core_loop

#: The name of the speed in a metric's ``speeds``.
HOST = "host"
#: Rounds of the reference loop in one look: some 3 ms.
ROUNDS = 100


class HostSpeed:
    """Look at the speed of this thread's core, before and after work on a device is timed."""

    def __init__(self) -> None:
        self._references = ReferenceSpeeds({HOST: core_loop})

    @contextmanager
    def around(self) -> Iterator[None]:
        """Look before and after the block, not in between: a device that waits for a look clocks down."""
        self._references.measure(times=ROUNDS)
        yield
        self._references.measure(times=ROUNDS)

    def speeds(self) -> Mapping[str, float]:
        """Give the median speed of the looks so far, in loops per second."""
        return self._references.speeds()
