"""Which of several calls is faster, on a machine whose speed changes meanwhile? They run in turns, in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

from perfgate.measure.unprofiled import unprofiled


def median_times(
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 7,
    clock: Callable[[], float] = time.thread_time,
) -> dict[str, float]:
    """Give the median time of each call over rounds in which all of them take turns.

    Args:
        calls: by name. Each runs once before the first round.
        rounds: how often each is timed.
        clock: gives seconds. By default the CPU time of this thread, which leaves out the time in which others had its
            core; right for calls that run in this thread alone, as torch's do with one thread.

    Raises:
        SettingError: torch's profiler runs meanwhile.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    with unprofiled():
        for call in calls.values():
            call()
        for _ in range(rounds):
            for name, call in calls.items():
                start_s = clock()
                call()
                times[name].append(clock() - start_s)
    return {name: statistics.median(each) for name, each in times.items()}
