"""How long does a call take on the wall clock, and how long in cycles of the machine it ran on?

A sample repeats the call until it takes about 2 ms; before and after each sample the machine's speed is looked at
(:mod:`perfgate.measure.reference_speed`). Sampling ends when the median is known to a stated width, or with the budget.

*Seconds* are those of the clock less the time in which the calling thread was ready to run and another process had its
core. That time is the neighbours', and on a busy machine it is most of a long sample. Waiting for anything else (a
disk, a lock, threads of the call's own) counts. A call that competes with its own threads for cores may hide some of
that; pin them.

*Speeds* are such that ``median_s * speeds[name]`` is the median over the samples of (seconds of the sample x speed
around that sample). This product, the call's length in reference loops, is what repeats between processes; figures in
:mod:`perfgate.measure.reference_speed`. Other statistics of the same pairs, as the mean deviation between 24 processes
of five cases with the other core mostly busy, in the geometric mean of both references: median of the ratios 3.8 %,
lower quartile 4.0 %, mean 4.1 %, ratio of the medians 4.9 %, ratio of the minima 5.4 %. With four processes on two
cores the ratio of the minima was best (6.5 %, the others 7.9 to 8.6 %); no statistic won under both.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from perfgate.measure import sampling
from perfgate.measure.cpu_conditions import QueueWait
from perfgate.measure.reference_speed import ReferenceSpeeds
from perfgate.measure.unprofiled import unprofiled
from perfgate.model import Limit, Noise

#: Between processes, in reference loops: 3 to 6 % on two cores with one busy, more with both overbooked.
WALL_NOISE_CPU = Noise(0.05)
WALL_LIMIT_CPU = Limit(0.10)

#: A sample repeats a short call until it takes about this long: reading clock and queue is 0.2 % of it.
SAMPLE_S = 2e-3
#: A run of this share of ``SAMPLE_S`` is a sample; one of this many times is not timed twice to be sure of that.
LONG_ENOUGH, SURELY_LONG = 0.8, 25.0
MAX_ITERATIONS = 1_000_000
#: Looks at the machine's speed grow with the sample to about this share of it; ``LOOK_S`` is the shortest.
LOOK_SHARE = 0.08
LOOK_S = 0.4e-3
MAX_LOOK = 50


@dataclass(frozen=True)
class WallTiming:
    """Wall time of one call.

    Args:
        median_s: median over the samples, in seconds.
        spread: (q3 - q1) / median of the samples.
        samples: seconds per call, one for each sample.
        iterations: calls in one sample.
        rounds: number of samples.
        speeds: reference loops per second around the samples; see the module for what makes them exact.
        queued: share of the time in which the thread waited for a core that others had; not in the samples.
        result: what the last timed call returned.
    """

    median_s: float
    spread: float
    samples: tuple[float, ...]
    iterations: int
    rounds: int
    speeds: Mapping[str, float]
    queued: float
    result: Any = field(repr=False, compare=False)


@unprofiled()
def time_wall(
    fn: Callable[[], Any],
    *,
    budget_s: float = 1.0,
    target: float = 0.01,
    min_samples: int = 7,
    min_samples_slow: int = 3,
    min_time_s: float = 0.1,
    clock: Callable[[], float] = time.perf_counter,
    waited: Callable[[], float] | None = None,
    references: ReferenceSpeeds | None = None,
    synchronize: Callable[[], None] | None = None,
    disable_gc: bool = True,
) -> WallTiming:
    """Time a call.

    Args:
        fn: the call. Its first run is not timed.
        budget_s: seconds of sampling, looks at the machine included.
        target: stop when half the median's 95 % interval is this narrow, as a share of the median: of the samples in
            loops of any one reference, or of the seconds without references.
        min_samples: samples there are in any case.
        min_samples_slow: the same for a call so slow that ``min_samples`` of it exceed the budget.
        min_time_s: sampling takes at least this long, because the machine's state changes more slowly than samples.
        clock: reads seconds.
        waited: reads the seconds that the thread has waited for a core; by default the kernel's figure, and nothing
            for work on a device, which goes on meanwhile.
        references: looks at the machine's speed between samples. None for work on a device.
        synchronize: waits for a device; called before the start and before the end of a sample.
        disable_gc: keep the garbage collector out of the samples.

    Raises:
        SettingError: torch's profiler runs meanwhile.
    """
    with _steady(disable_gc), QueueWait() as queue:
        if waited is None:
            waited = queue if synchronize is None else (lambda: 0.0)
        timer = _Timer(fn, clock, waited, synchronize or (lambda: None))
        timer.sample(1)
        iterations, sample_s = _calibrate(timer)
        look = _look(references, timer, sample_s)
        needed = min_samples if min_samples * sample_s <= budget_s else min_samples_slow
        samples: list[float] = []
        start, queued = clock(), waited()
        before = look()
        cycles: dict[str, list[float]] = {name: [] for name in before}
        while True:
            samples.append(timer.sample(iterations) / iterations)
            after = look()
            for name, figures in cycles.items():
                # The loops take the mean of the two times, not of the two speeds.
                figures.append(samples[-1] * 2 / (1 / before[name] + 1 / after[name]))
            before = after
            elapsed_s = clock() - start
            if len(samples) >= needed and (
                elapsed_s >= budget_s or (elapsed_s >= min_time_s and _known(cycles.values() or [samples], target))
            ):
                break
        queued = waited() - queued
    median_s = statistics.median(samples)
    return WallTiming(
        median_s=median_s,
        spread=sampling.spread(samples),
        samples=tuple(samples),
        iterations=iterations,
        rounds=len(samples),
        speeds={name: statistics.median(figures) / median_s for name, figures in cycles.items()},
        queued=queued / elapsed_s if elapsed_s > 0 else 0.0,
        result=timer.result,
    )


class _Timer:
    """Times runs of a call, less the time that the thread waited for a core.

    Args:
        fn: the call.
        clock: reads seconds.
        waited: reads the seconds waited so far.
        synchronize: waits for a device.
    """

    def __init__(
        self,
        fn: Callable[[], Any],
        clock: Callable[[], float],
        waited: Callable[[], float],
        synchronize: Callable[[], None],
    ) -> None:
        self._fn, self._clock, self._waited, self._synchronize = fn, clock, waited, synchronize
        self.result: Any = None

    def sample(self, iterations: int) -> float:
        """Give the seconds that so many calls take."""
        return self.elapsed(lambda: self._run(iterations))

    def elapsed(self, work: Callable[[], Any]) -> float:
        """Give the seconds that work takes.

        The clock is the first thing read and the last: a core lost between clock and queue then counts as time, and
        no figure is ever too small.
        """
        self._synchronize()
        start = self._clock()
        waited = self._waited()
        work()
        self._synchronize()
        waited = self._waited() - waited
        return self._clock() - start - waited

    def _run(self, iterations: int) -> None:
        fn = self._fn
        for _ in range(iterations):
            # The last result is released inside the timing, once a call, whatever the number of iterations.
            self.result = None
            self.result = fn()


def _calibrate(timer: _Timer) -> tuple[int, float]:
    """Give how many calls make a sample, and the seconds it takes."""
    iterations = 1
    while True:
        sample_s = timer.sample(iterations)
        if LONG_ENOUGH * SAMPLE_S <= sample_s < SURELY_LONG * SAMPLE_S:
            # It may have been disturbed: one such run of a 10 us call would leave it without an inner loop.
            sample_s = min(sample_s, timer.sample(iterations))
        if sample_s >= LONG_ENOUGH * SAMPLE_S or iterations >= MAX_ITERATIONS:
            return iterations, sample_s
        wanted = math.ceil(iterations * SAMPLE_S / sample_s) if sample_s > 0 else MAX_ITERATIONS
        # A run may also have been a lucky one: grow by at most 10 times a step.
        iterations = min(max(2 * iterations, wanted), 10 * iterations, MAX_ITERATIONS)


def _look(references: ReferenceSpeeds | None, timer: _Timer, sample_s: float) -> Callable[[], Mapping[str, float]]:
    """Give what looks at the machine's speed beside samples of this length."""
    if references is None:
        return dict
    times = max(1, min(round(LOOK_SHARE * sample_s / LOOK_S), MAX_LOOK))
    return lambda: references.measure(timer.elapsed, times)


def _known(views: Iterable[list[float]], target: float) -> bool:
    """Whether the median is known to the target in any view of the samples."""
    return any(sampling.enough(view, target, 1) for view in views)


@contextmanager
def _steady(disable_gc: bool) -> Iterator[None]:
    """Collect garbage, then keep the collector from running."""
    if not (disable_gc and gc.isenabled()):
        yield
        return
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
