"""What was the machine doing around the samples: how busy were others, and how long did this thread wait for a core?"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

_STAT = Path("/proc/stat")
_QUEUE = "/proc/thread-self/schedstat"
#: Kernel's unit in /proc/stat.
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


@dataclass(frozen=True)
class CpuTimes:
    """CPU time since boot, in seconds summed over the logical processors.

    Args:
        busy_s: spent in processes and in the kernel, by this machine.
        stolen_s: the hypervisor gave to other machines while this one had work to do.
        count: logical processors.
    """

    busy_s: float
    stolen_s: float
    count: int


def parse_stat(text: str) -> CpuTimes | None:
    """Read the text of ``/proc/stat``; None when it is not what Linux writes."""
    lines = text.splitlines()
    total = next((line.split()[1:] for line in lines if line.startswith("cpu ")), [])
    count = sum(line.startswith("cpu") and line[3:4].isdigit() for line in lines)
    if len(total) < 8 or not count or not all(field.isdigit() for field in total):
        return None
    # Fields: user nice system idle iowait irq softirq steal; guest time is part of user.
    user, nice, system, _, _, irq, softirq, steal = (int(field) / _TICKS for field in total[:8])
    return CpuTimes(user + nice + system + irq + softirq, steal, count)


def read_times() -> CpuTimes | None:
    """Read the machine's CPU times; None where there is no ``/proc/stat``."""
    try:
        return parse_stat(_STAT.read_text(encoding="ascii"))
    except OSError:
        return None


def read_load() -> float | None:
    """Read the load average of the last minute; None where the system has none."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


class CpuConditions:
    """Measures the load of others between entering and leaving; every source has a stand-in for tests.

    Args:
        times: reads the machine's CPU times.
        own: reads this process's CPU time in seconds.
        clock: reads seconds.
        load: reads the load average of the last minute.
    """

    def __init__(
        self,
        *,
        times: Callable[[], CpuTimes | None] = read_times,
        own: Callable[[], float] = time.process_time,
        clock: Callable[[], float] = time.perf_counter,
        load: Callable[[], float | None] = read_load,
    ) -> None:
        self._times, self._own, self._clock, self._load = times, own, clock, load
        self._report: dict[str, float] = {}

    def __enter__(self) -> CpuConditions:
        self._before = (self._times(), self._own(), self._clock())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        before, own_before, start = self._before
        after, own_s, elapsed_s = self._times(), self._own() - own_before, self._clock() - start
        self._report = {"cpu_elapsed_s": elapsed_s}
        load = self._load()
        if load is not None:
            self._report["load_1min"] = load
        if elapsed_s <= 0:
            return
        self._report["cpu_own"] = own_s / elapsed_s
        if before is not None and after is not None:
            others_s = max(after.busy_s - before.busy_s - own_s, 0.0)
            self._report["cpu_others"] = others_s / elapsed_s
            self._report["cpu_stolen"] = max(after.stolen_s - before.stolen_s, 0.0) / elapsed_s
            self._report["cpu_count"] = float(after.count)

    def report(self) -> Mapping[str, float]:
        """Give what was seen, empty before leaving.

        Returns:
            ``cpu_elapsed_s`` and ``load_1min``; ``cpu_own``, ``cpu_others`` and ``cpu_stolen`` in cores (1.0 is one
            core busy all the time; the kernel counts in steps of 10 ms), and ``cpu_count`` of the machine, of which a
            container may use fewer.
        """
        return dict(self._report)


class QueueWait:
    """Reads how long the calling thread was ready to run while another had its core, where Linux counts it.

    Open it in the thread that is timed; the figure belongs to that thread.
    """

    def __init__(self, path: str = _QUEUE) -> None:
        try:
            self._file: int | None = os.open(path, os.O_RDONLY)
        except OSError:
            self._file = None

    def __call__(self) -> float:
        """Give seconds since the thread began; 0.0 where the kernel does not count."""
        if self._file is None:
            return 0.0
        # "<time on a core> <time in the run queue> <times on a core>", in nanoseconds.
        fields = os.pread(self._file, 96, 0).split()
        return int(fields[1]) * 1e-9 if len(fields) == 3 else 0.0

    def close(self) -> None:
        """Close the file; every later figure is 0.0."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> QueueWait:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
