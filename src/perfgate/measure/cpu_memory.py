"""How much memory does one call need on a CPU, over what the process held before?

*Method "high-water"* (Linux with glibc): the kernel's high-water mark of resident memory, reset before each untimed
call (``5`` to ``/proc/self/clear_refs``), less what was resident before it. It sees the memory of every library, and
peaks that are gone when the call returns. Three things make it repeat:

- free heap goes back to the kernel first (garbage collection, ``malloc_trim``); otherwise a call that reuses what an
  earlier one left behind seems to need nothing;
- malloc clears what it hands out (``M_PERTURB``), so that every page of it becomes resident: a block that is never
  written, of ``torch.empty`` or ``bytes(n)``, would not be seen at all, or only when malloc happens to take it from its
  heap, which depends on what ran before. Cleared memory is what the kernel hands out too;
- the median of up to three calls.

*Method "traced"* (everywhere else): the peak of what Python and numpy allocate, by ``tracemalloc``. It repeats as well
but does not see torch.

Measured between 12 fresh processes of each of five cases (a Python function, a torch matmul, attention, a clone of
64 MB, a small torch add), others busy: the high-water mark is the same within 4 KiB (62 KiB to 64 MiB). Twins that hold
8 MiB more, as bytes, bytearray, numpy or torch, written or not: +7.99 to +8.01 MiB, each in all five. Without clearing,
unwritten blocks were missed in some cases and seen in others; traced, all torch was missed. Memory in many small Python
objects moves by the 1 MiB arenas that Python takes it in: a list of 230 000 integers by 0.4 MiB in 12 processes of one
case, and it read 7.8 to 9.7 MiB over all five.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from perfgate.model import Limit, Noise

#: Objects that are set aside although nobody froze the heap, at most: Python 3.12 counts those that never die, 375.
IMMORTAL = 1000
#: Between processes: a page for tensors, arrays and strings; 130 KiB, by arenas, for many small Python objects.
MEMORY_NOISE = Noise(0.0, 128 << 10)
MEMORY_LIMIT = Limit(0.0, 1 << 20)

CALLS = 3
#: Further calls are left out once this much time is spent.
BUDGET_S = 2.0

_STATUS = "/proc/self/status"
_CLEAR_REFS = "/proc/self/clear_refs"
#: glibc's mallopt parameter. malloc fills a new block with the complement of the byte given: 0xff clears it.
_M_PERTURB = -6
_CLEARING = 0xFF
#: A call whose address space grew beyond this share of the free memory is not made to touch all of it.
_CLEAR_SHARE = 0.5


@dataclass(frozen=True)
class MemoryReading:
    """Memory of one call, in bytes.

    Args:
        peak_bytes: peak over what the process held before the call.
        method: "high-water", "touched" (the same, but blocks never written do not count) or "traced".
        calls_bytes: the peak of each call that was made for it.
        resident_bytes: what the process held before the last of them; 0 where it is not known.
    """

    peak_bytes: int
    method: str
    calls_bytes: tuple[int, ...]
    resident_bytes: int = 0


def peak_memory(fn: Callable[[], Any]) -> MemoryReading:
    """Call untimed, at most four times, and read how far memory rose. Warm up before: a first call also loads code."""
    libc = _glibc()
    with resting_heap():
        return _traced(fn) if libc is None or not _can_reset() else _marked(fn, libc)


def _marked(fn: Callable[[], Any], libc: ctypes.CDLL) -> MemoryReading:
    """Read the kernel's high-water mark around a few calls."""
    begin = time.perf_counter()
    room = int(_CLEAR_SHARE * _available_bytes())
    first = _high_water(fn, libc)
    status = _status()
    # Address space bounds what the call can have allocated, touched or not. The mark is that of the whole process.
    clears = status["VmPeak"] - status["VmSize"] <= room or _fits(fn, room)
    readings: list[tuple[int, int]] = [] if clears else [first]
    with _cleared_blocks(libc if clears else None):
        while len(readings) < CALLS and (not readings or time.perf_counter() - begin < BUDGET_S):
            readings.append(_high_water(fn, libc))
    peaks = tuple(peak for peak, _ in readings)
    return MemoryReading(
        int(statistics.median_low(peaks)), "high-water" if clears else "touched", peaks, readings[-1][1]
    )


def _high_water(fn: Callable[[], Any], libc: ctypes.CDLL) -> tuple[int, int]:
    """Give by how much one call raised resident memory at most, and what was resident before."""
    gc.collect()
    libc.malloc_trim(0)
    _reset()
    before = _status()["VmRSS"]
    result = fn()
    peak = _status()["VmHWM"]
    del result
    return max(peak - before, 0), before


def _fits(fn: Callable[[], Any], room: int) -> bool:
    """Whether a call can do with so many bytes of address space: another test may have left the mark that is high."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    wanted = _status()["VmSize"] + room
    if before[0] != resource.RLIM_INFINITY and before[0] < wanted:
        return False
    resource.setrlimit(resource.RLIMIT_AS, (wanted, before[1]))
    try:
        fn()
    except (MemoryError, RuntimeError, OSError):
        return False
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    return True


def _traced(fn: Callable[[], Any]) -> MemoryReading:
    """Give the peak of what Python and numpy allocate during one call."""
    tracing = tracemalloc.is_tracing()
    if not tracing:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        result = fn()
        _, peak = tracemalloc.get_traced_memory()
        del result
    finally:
        if not tracing:
            tracemalloc.stop()
    return MemoryReading(max(peak - before, 0), "traced", (max(peak - before, 0),))


def _status() -> dict[str, int]:
    """Give the memory figures of this process in bytes."""
    with open(_STATUS, encoding="utf-8") as file:
        rows = (line.split() for line in file if line.startswith("Vm"))
        return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows}


def _reset() -> None:
    with open(_CLEAR_REFS, "w", encoding="ascii") as file:
        file.write("5")


def _can_reset() -> bool:
    """Whether the kernel lets this process reset its high-water mark; some sandboxes do not."""
    try:
        _reset()
        return {"VmHWM", "VmRSS", "VmPeak", "VmSize"} <= _status().keys()
    except OSError:
        return False


def _available_bytes() -> int:
    with open("/proc/meminfo", encoding="ascii") as file:
        return next((int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:")), 0)


def _glibc() -> ctypes.CDLL | None:
    """Give the C library where it is glibc."""
    try:
        if not os.confstr("CS_GNU_LIBC_VERSION"):
            return None
        libc = ctypes.CDLL(None)
        return libc if hasattr(libc, "malloc_trim") and hasattr(libc, "mallopt") else None
    except (AttributeError, OSError, ValueError):
        return None


@contextmanager
def resting_heap() -> Iterator[None]:
    """Collect garbage once and set what is left aside: inside the block, collecting looks at newer objects only.

    A full collection takes 0.1 to 0.3 s where torch is loaded.
    """
    gc.collect()
    freezes = gc.get_freeze_count() <= IMMORTAL
    if freezes:
        gc.freeze()
    try:
        yield
    finally:
        if freezes:
            gc.unfreeze()


@contextmanager
def _cleared_blocks(libc: ctypes.CDLL | None) -> Iterator[None]:
    """Let malloc write zeros to every block it hands out, inside the block."""
    if libc is None:
        yield
        return
    libc.mallopt(_M_PERTURB, _CLEARING)
    try:
        yield
    finally:
        libc.mallopt(_M_PERTURB, int(os.environ.get("MALLOC_PERTURB_", "0")))
