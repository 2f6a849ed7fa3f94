"""How long does a call take on the wall clock, and how long would it have taken on a machine of steady speed?"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from perfgate.measure import sampling
from perfgate.measure.cpu_conditions import QueueWait
from perfgate.measure.reference_speed import ReferenceSpeeds
from perfgate.model import Limit, Noise

WALL_NOISE_CPU = Noise(0.05)
WALL_LIMIT_CPU = Limit(0.10)

#: A sample repeats a short call until it takes about this long: the clock and the queue cost under 0.1 % of it.
SAMPLE_S = 2e-3
MAX_ITERATIONS = 1_000_000
#: A look at the references takes about this share of a sample, and at least ``LOOK_S`` for all of them together.
LOOK_SHARE = 0.08
LOOK_S = 0.4e-3
MAX_LOOK = 50


@dataclass(frozen=True)
class WallTiming:
    """Wall time of one call, in seconds."""

    median_s: float
    spread: float
    samples: tuple[float, ...]
    iterations: int
    rounds: int
    speeds: Mapping[str, float]
    queued: float
    result: Any = field(repr=False, compare=False)


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
    with _steady(disable_gc), QueueWait() as queue:
        if waited is None:
            waited = queue if synchronize is None else (lambda: 0.0)
        timer = _Timer(fn, clock, waited, synchronize or (lambda: None))
        timer.sample(1)
        iterations, sample_s = _calibrate(timer)
        look = _look(references, timer, sample_s)
        needed = min_samples if min_samples * sample_s <= budget_s else min_samples_slow
        samples: list[float] = []
        looks = [look()]
        start, queued = clock(), waited()
        while True:
            samples.append(timer.sample(iterations) / iterations)
            looks.append(look())
            elapsed_s = clock() - start
            if len(samples) < needed:
                continue
            if elapsed_s >= budget_s or (elapsed_s >= min_time_s and _precise(samples, looks, target)):
                break
        queued = (waited() - queued) / elapsed_s if elapsed_s > 0 else 0.0
    median_s = statistics.median(samples)
    return WallTiming(
        median_s=median_s,
        spread=sampling.spread(samples),
        samples=tuple(samples),
        iterations=iterations,
        rounds=len(samples),
        speeds={name: statistics.median(cycles) / median_s for name, cycles in _cycles(samples, looks).items()},
        queued=queued,
        result=timer.result,
    )


class _Timer:
    """Times runs of a call, less the time it waited for a core.

    Args:
        fn: the call.
        clock: reads seconds.
        waited: reads the seconds waited so far.
        synchronize: waits for what was queued.
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

        The clock is the first thing read and the last: a core lost between clock and queue is then counted as time,
        and no sample is ever too short.
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
        if sample_s >= 0.8 * SAMPLE_S or iterations >= MAX_ITERATIONS:
            return iterations, sample_s
        wanted = math.ceil(iterations * SAMPLE_S / sample_s) if sample_s > 0 else MAX_ITERATIONS
        # A single run may have been lucky: grow by at most 10 times a step.
        iterations = min(max(2 * iterations, wanted), 10 * iterations, MAX_ITERATIONS)


def _look(references: ReferenceSpeeds | None, timer: _Timer, sample_s: float) -> Callable[[], Mapping[str, float]]:
    if references is None:
        return dict
    times = max(1, min(round(LOOK_SHARE * sample_s / LOOK_S), MAX_LOOK))
    return lambda: references.measure(timer.elapsed, times)


def _cycles(samples: Sequence[float], looks: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Give, for each reference, every sample in loops of it: seconds times the speed before and after."""
    cycles = {}
    for name in looks[0]:
        # Loops take the mean of the two times, not of the two speeds.
        around = zip(looks, looks[1:], strict=False)
        speeds = [2 / (1 / before[name] + 1 / after[name]) for before, after in around]
        cycles[name] = [sample * speed for sample, speed in zip(samples, speeds, strict=True)]
    return cycles


def _precise(samples: Sequence[float], looks: Sequence[Mapping[str, float]], target: float) -> bool:
    views = list(_cycles(samples, looks).values()) or [samples]
    return any(sampling.enough(view, target, 1) for view in views)


@contextmanager
def _steady(disable_gc: bool) -> Iterator[None]:
    """Keep the garbage collector out of the samples."""
    if not (disable_gc and gc.isenabled()):
        yield
        return
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
