"""How fast is a core, and how fast its memory, at this very moment?

A core that shares its execution units, caches and clock budget with a neighbour is up to 2.5 times slower, for
milliseconds or for minutes, and a process cannot see the neighbour. Two loops of known work see its effect. They bound
it: what only computes suffers most (*core*, bytecode on integers), what waits for memory least (*memory*, streaming
through a buffer larger than a core's caches), and real code lies between, each case somewhere else. So a duration in
either loop alone still depends on the neighbour where processes ran in different states of the machine; the
geometric mean of both (*both*) is the best single view over many cases.

Standard deviation between fresh processes, in %, on two virtual cores of 2.5 GHz: of the median in seconds as the clock
gives them, less the wait for a core, and in loops. First with the other core mostly busy (24 processes a case, taken
after method and statistic were fixed), then with four processes or more on the two cores (12 a case):

====================== ===== ===== ==== ==== ====== = ===== ===== ==== ==== ======
case                   clock  less core both memory   clock  less core both memory
====================== ===== ===== ==== ==== ====== = ===== ===== ==== ==== ======
Python function, 4 ms     38    26  5.6  2.8   10.6      58    18  0.8  5.6   10.6
torch matmul 256^3        33    15  9.9  3.5    7.3      65    12  4.7  8.3   13.4
attention, 0.5 ms         22    21  8.8  4.5    9.6      72    16 10.3  8.5   16.5
clone of 64 MB            26     8 11.3  5.3    3.6      33    12 17.5 12.1   10.7
torch add, 6 us           41    15  8.9  2.9    6.9      63     4  4.9  6.7   11.3
====================== ===== ===== ==== ==== ====== = ===== ===== ==== ==== ======

Also tried as references: SHA-256, zlib, ``np.take`` at random places, copies of 1 to 4 MB, ``np.exp``, small matrix
products, page faults and dictionary look-ups. Which pair is best differed between the two sets of runs they were tried
on; a bytecode loop with a stream through memory was never far behind and needs nothing but numpy.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

#: Bytes of the buffer that the memory loop streams through, several times an L2 cache.
BUFFER_BYTES = 32 << 20
#: Bytes of one memory loop.
CHUNK_BYTES = 512 << 10
#: Bytecode iterations of one core loop.
CORE_ITERATIONS = 500
#: Loops of each kind in one look, about 0.2 ms.
LOOPS = {"core": 4, "memory": 3}

Stopwatch = Callable[[Callable[[], Any]], float]


def core_loop() -> int:
    """Run integer arithmetic in bytecode: bound by the core alone, everything it touches is in its first cache."""
    total = 0
    for number in range(CORE_ITERATIONS):
        total += number * number & 7
    return total


class MemoryLoop:
    """Sum the next stretch of a buffer that is larger than the caches of a core."""

    def __init__(self) -> None:
        import numpy as np

        self._chunks = np.ones(BUFFER_BYTES // 8, dtype=np.int64).reshape(-1, CHUNK_BYTES // 8)
        self._next = 0

    def __call__(self) -> int:
        self._next = (self._next + 1) % len(self._chunks)
        return int(self._chunks[self._next].sum())


def plain_stopwatch(work: Callable[[], Any]) -> float:
    """Give the seconds that work takes on the wall clock."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class ReferenceSpeeds:
    """Look at the machine's speeds again and again, between samples.

    Args:
        loops: the reference loops by name; the core and the memory loop by default. One is a stand-in in tests.
    """

    def __init__(self, loops: Mapping[str, Callable[[], Any]] | None = None) -> None:
        self._loops: dict[str, Callable[[], Any]] = {}
        self._loops |= {"core": core_loop, "memory": MemoryLoop()} if loops is None else loops
        self._looks: list[dict[str, float]] = []
        for loop in self._loops.values():
            loop()

    def measure(self, stopwatch: Stopwatch = plain_stopwatch, times: int = 1) -> dict[str, float]:
        """Take one look at every speed.

        Args:
            stopwatch: gives the seconds that some work takes.
            times: multiplies the loops, so that a look between long samples sees more of the machine.

        Returns:
            Loops per second, by name.
        """
        look = {}
        for name, loop in self._loops.items():
            count = LOOPS.get(name, 1) * times
            # What ran before has evicted the loop's own code and data; its first round would measure that.
            loop()
            seconds = stopwatch(partial(_repeat, loop, count))
            look[name] = count / max(seconds, 1e-9)
        self._looks.append(look)
        return look

    def speeds(self) -> dict[str, float]:
        """Give the median of every speed over the looks so far, in loops per second; empty before the first."""
        return {name: statistics.median(look[name] for look in self._looks) for name in self._loops if self._looks}


def _repeat(loop: Callable[[], Any], count: int) -> None:
    for _ in range(count):
        loop()
