"""Which of two calls is faster, on a machine whose speed changes meanwhile? They run in turns, in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from perfgate.measure.sampling import median_interval
from perfgate.measure.unprofiled import unprofiled

#: Rounds before the first look at the ratio. Twice as many come before each further one.
FIRST_ROUNDS = 15
#: Of the interval at each look, so that some looks together are wrong once in hundreds of comparisons. That is where
#: rounds do not depend on each other, as those of calls of milliseconds (32 tokens: correlation below 0.1).
#: Neighbouring rounds of calls below one may (one token: 0.45): a ratio just at its goal is misjudged more often then.
CONFIDENCE = 0.999


@dataclass(frozen=True)
class Ratio:
    """How many times as long the first of two calls takes as the second.

    Attributes:
        median: of the ratios of all rounds.
        low, high: the interval of that median.
        first_s, second_s: median time of each call, in seconds.
        rounds: how many there were.
    """

    median: float
    low: float
    high: float
    first_s: float
    second_s: float
    rounds: int

    def __str__(self) -> str:
        return f"{self.median:.2f} times ({self.low:.2f} to {self.high:.2f} in {self.rounds} rounds)"


def time_ratio(
    first: Callable[[], object],
    second: Callable[[], object],
    *,
    goal: float,
    enough_s: float = 10.0,
    clock: Callable[[], float] = time.thread_time,
    progress: Callable[[str], None] = lambda text: None,
) -> Ratio:
    """Time two calls in turns until it is known on which side of ``goal`` their ratio lies, or time is up.

    A single look at the ratio cannot tell a call that is slower than it should be from a moment in which its core was:
    what decides is the interval, and an interval that holds the goal decides nothing.

    Args:
        first: runs once before the first round, as does the other.
        second: what the first is compared with.
        goal: the ratio, first over second, that is asked about.
        enough_s: no further rounds once the timed calls took this long, in seconds of ``clock``.
        clock: gives seconds. By default the CPU time of this thread, which leaves out the time in which others had its
            core; right for calls that run in this thread alone, as torch's do with one thread.
        progress: told the ratio at each look.

    Raises:
        SettingError: torch's profiler runs meanwhile.
    """
    times: list[tuple[float, float]] = []
    with unprofiled():
        first()
        second()
        begin_s = clock()
        rounds = FIRST_ROUNDS
        while True:
            while len(times) < rounds:
                start_s = clock()
                first()
                middle_s = clock()
                second()
                times.append((middle_s - start_s, clock() - middle_s))
            ratios = [one_s / other_s for one_s, other_s in times]
            low, high = median_interval(ratios, CONFIDENCE)
            progress(f"{len(times)} rounds, {low:.2f} to {high:.2f} times")
            if high < goal or goal <= low or clock() - begin_s >= enough_s:
                break
            rounds *= 2
    first_s, second_s = (statistics.median(each) for each in zip(*times, strict=True))
    return Ratio(statistics.median(ratios), low, high, first_s, second_s, len(times))
