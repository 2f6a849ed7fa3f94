"""The wall clock, on a machine whose time is scripted."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, cycle, pairwise, repeat
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfgate.measure import reference_speed, wall
from perfgate.measure.reference_speed import ReferenceSpeeds

pytestmark = pytest.mark.usefixtures("resting_heap")

MS = 1e-3


class Machine:
    """A machine whose clock moves only when something runs on it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.queue = 0.0
        self.slowness = 1.0
        self.calls = 0

    def clock(self) -> float:
        return self.now

    def waited(self) -> float:
        return self.queue

    def call(self, seconds: Iterable[float]) -> Callable[[], int]:
        """A function that takes these seconds at full speed, call by call."""
        script: Iterator[float] = iter(seconds)

        def run() -> int:
            self.calls += 1
            self.now += next(script) * self.slowness
            return self.calls

        return run

    def loses_core(self, seconds: float) -> None:
        """Another process has the core for a while."""
        self.now += seconds
        self.queue += seconds

    def references(self, **exponents: float) -> ReferenceSpeeds:
        """Loops of 0.1 ms that slow down with the machine to a power."""

        def loop(exponent: float) -> Callable[[], None]:
            def run() -> None:
                self.now += 0.1 * MS * self.slowness**exponent

            return run

        return ReferenceSpeeds({name: loop(exponent) for name, exponent in exponents.items()})

    def time(self, fn: Callable[[], Any], **settings: Any) -> wall.WallTiming:
        return wall.time_wall(fn, clock=self.clock, waited=self.waited, **settings)


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.mark.parametrize(
    ("call_s", "iterations"),
    [(5.0, 1), (2 * MS, 1), (1.7 * MS, 1), (1.5 * MS, 2), (0.5 * MS, 4), (20e-6, 100), (1e-6, 2000)],
)
def test_short_calls_are_repeated_until_a_sample_takes_two_milliseconds(
    machine: Machine, call_s: float, iterations: int
) -> None:
    timing = machine.time(machine.call(repeat(call_s)))

    assert timing.iterations == pytest.approx(iterations, rel=0.01)
    assert timing.median_s == pytest.approx(call_s)
    assert timing.samples == pytest.approx([call_s] * timing.rounds)


def test_one_disturbed_run_does_not_take_the_inner_loop_away(machine: Machine) -> None:
    # Warm-up, then a first timed call with an interrupt of 3 ms in it.
    timing = machine.time(machine.call(chain([10e-6, 3 * MS], repeat(10e-6))))

    assert timing.iterations == pytest.approx(200, rel=0.01)


def test_a_call_that_takes_no_time_on_this_clock_ends_at_the_largest_loop(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wall, "MAX_ITERATIONS", 1000)
    times = iter(range(1, 100_000))
    # The clock stands still for the samples of the calibration and ticks once a reading afterwards.
    timing = wall.time_wall(
        machine.call(repeat(0.0)), clock=lambda: float(next(times)) * 1e-9, waited=machine.waited, budget_s=1e-9
    )

    assert timing.iterations == 1000


def test_sampling_stops_when_the_median_is_known(machine: Machine) -> None:
    timing = machine.time(machine.call(repeat(2 * MS)), min_time_s=0.0)

    assert timing.rounds == 7


def test_sampling_goes_on_for_the_shortest_time(machine: Machine) -> None:
    timing = machine.time(machine.call(repeat(2 * MS)), min_time_s=0.05)

    assert timing.rounds == pytest.approx(25, abs=1)


def test_noise_is_sampled_until_the_interval_is_narrow(machine: Machine) -> None:
    # Eleven values from -5 to 5 % in turn.
    noisy = cycle([2 * MS * (1 + (step * 7 % 11 - 5) / 100) for step in range(11)])
    wide = machine.time(machine.call(noisy), min_time_s=0.0, target=0.05, budget_s=10.0)
    narrow = machine.time(machine.call(noisy), min_time_s=0.0, target=0.01, budget_s=10.0)

    assert wide.rounds == 7
    assert 20 < narrow.rounds < 200
    assert narrow.median_s == pytest.approx(2 * MS, rel=0.01)


def test_the_budget_ends_what_never_settles(machine: Machine) -> None:
    timing = machine.time(machine.call(cycle([2 * MS, 4 * MS])), budget_s=0.5)

    assert sum(timing.samples) == pytest.approx(0.5, abs=5 * MS)


def test_a_call_of_seconds_is_timed_three_times(machine: Machine) -> None:
    timing = machine.time(machine.call(repeat(4.0)))

    assert (timing.rounds, timing.iterations) == (3, 1)
    # One warm-up, one to calibrate, three samples.
    assert machine.calls == 5
    assert machine.time(machine.call(repeat(4.0)), min_samples_slow=2).rounds == 2


def test_the_result_is_that_of_the_last_timed_call(machine: Machine) -> None:
    timing = machine.time(machine.call(repeat(0.5 * MS)))

    assert timing.result == machine.calls
    assert timing.iterations == 4


def test_the_figures_are_those_of_the_samples(machine: Machine) -> None:
    # Warm-up and calibration (twice: the first run might be disturbed), then the samples.
    script = chain(repeat(3 * MS, 3), [2 * MS, 3 * MS, 7 * MS, 4 * MS, 6 * MS])
    timing = machine.time(machine.call(script), min_samples=5, min_time_s=0.0, target=1.0)

    assert timing.samples == pytest.approx((2 * MS, 3 * MS, 7 * MS, 4 * MS, 6 * MS))
    assert timing.median_s == pytest.approx(4 * MS)
    assert timing.spread == pytest.approx(3 / 4)
    assert timing.rounds == 5
    assert timing.speeds == {}


def test_time_in_the_queue_for_a_core_is_not_the_calls(machine: Machine) -> None:
    inner = machine.call(repeat(2 * MS))

    def call() -> None:
        inner()
        machine.loses_core(6 * MS)

    timing = machine.time(call)

    assert timing.median_s == pytest.approx(2 * MS)
    assert timing.queued == pytest.approx(0.75)


def test_a_core_lost_while_the_clock_is_read_never_makes_a_sample_shorter(machine: Machine) -> None:
    def losing(read: Callable[[], float]) -> Callable[[], float]:
        def reading() -> float:
            figure = read()
            machine.loses_core(1 * MS)
            return figure

        return reading

    timing = wall.time_wall(
        machine.call(repeat(2 * MS)), clock=losing(machine.clock), waited=losing(machine.waited), target=1.0
    )

    assert min(timing.samples) >= 2 * MS


def test_device_work_goes_on_while_the_thread_waits_for_a_core(machine: Machine) -> None:
    done = machine.now
    log: list[str] = []

    def launch() -> None:
        nonlocal done
        done = max(done, machine.now) + 3 * MS
        log.append("launch")

    def synchronize() -> None:
        machine.now = max(machine.now, done)
        log.append("synchronize")

    # Without a ``waited`` of its own nothing is subtracted where there is a device to wait for.
    timing = wall.time_wall(launch, clock=machine.clock, synchronize=synchronize)

    assert timing.median_s == pytest.approx(3 * MS)
    assert log[:6] == ["synchronize", "launch", "synchronize"] * 2


@settings(max_examples=40)
@given(st.lists(st.floats(0.5, 2.0), min_size=4, max_size=30), st.floats(0.2, 1.0))
def test_seconds_times_speed_is_the_median_length_in_loops(slownesses: list[float], exponent: float) -> None:
    machine = Machine()
    states = cycle(slownesses)
    inner = machine.call(repeat(5 * MS))

    def call() -> None:
        inner()
        machine.slowness = next(states)

    looks: list[dict[str, float]] = []
    references = machine.references(core=1.0, memory=exponent)
    measure = references.measure
    references.measure = lambda *args: looks.append(measure(*args)) or looks[-1]  # type: ignore[method-assign,func-returns-value]
    timing = machine.time(call, references=references, min_time_s=0.3, budget_s=0.3, disable_gc=False)

    for name in ("core", "memory"):
        around = [(1 / before[name] + 1 / after[name]) / 2 for before, after in pairwise(looks)]
        loops = [sample / loop_s for sample, loop_s in zip(timing.samples, around, strict=True)]
        assert timing.median_s * timing.speeds[name] == pytest.approx(statistics.median(loops))


def test_a_slow_machine_changes_seconds_and_not_loops(machine: Machine) -> None:
    def measured(slowness: float) -> wall.WallTiming:
        machine.slowness = slowness
        return machine.time(machine.call(repeat(5 * MS)), references=machine.references(core=1.0, memory=0.5))

    fast, slow = measured(1.0), measured(1.69)

    assert slow.median_s == pytest.approx(1.69 * fast.median_s)
    assert slow.median_s * slow.speeds["core"] == pytest.approx(fast.median_s * fast.speeds["core"])
    # A reference that suffers less than the call does not explain all of it.
    assert slow.median_s * slow.speeds["memory"] == pytest.approx(1.3 * fast.median_s * fast.speeds["memory"])
    assert fast.speeds == pytest.approx({"core": 1e4, "memory": 1e4})


def test_one_steady_view_is_enough_to_stop(machine: Machine) -> None:
    # The machine changes after every sample, and the references see it at once: seconds never settle.
    states = cycle([1.0, 1.0, 3.0, 3.0])
    inner = machine.call(repeat(5 * MS))

    def call() -> None:
        inner()
        machine.slowness = next(states)

    machine.slowness = 1.0
    seen = machine.time(call, min_time_s=0.0, references=machine.references(core=1.0), budget_s=2.0, target=0.5)
    blind = machine.time(call, min_time_s=0.0, budget_s=2.0, target=0.5)

    assert seen.rounds < blind.rounds


def test_looks_grow_with_the_sample(machine: Machine) -> None:
    times: list[int] = []
    references = machine.references(core=1.0)
    measure = references.measure
    references.measure = lambda stopwatch, count: times.append(count) or measure(stopwatch, count)  # type: ignore[method-assign,func-returns-value]

    for call_s in (20e-6, 50 * MS, 4.0):
        machine.time(machine.call(repeat(call_s)), references=references)

    assert sorted(set(times)) == [1, 10, 50]


def test_the_garbage_collector_rests_and_comes_back(machine: Machine) -> None:
    states: list[bool] = []
    inner = machine.call(repeat(2 * MS))

    def call() -> None:
        states.append(gc.isenabled())
        inner()

    assert gc.isenabled()
    machine.time(call)
    assert not any(states)
    assert gc.isenabled()

    machine.time(call, disable_gc=False)
    assert states[-1]


def test_an_error_of_the_call_is_passed_on_with_the_collector_running(machine: Machine) -> None:
    def call() -> None:
        raise ZeroDivisionError("of the call")

    with pytest.raises(ZeroDivisionError, match=r"^of the call$"):
        machine.time(call)
    assert gc.isenabled()


def test_the_real_clock_and_the_real_references() -> None:
    def call() -> int:
        return sum(range(20_000))

    timing = wall.time_wall(call, budget_s=0.05, min_time_s=0.0, references=ReferenceSpeeds())

    assert timing.result == 199_990_000
    assert 1e-5 < timing.median_s < 1e-1
    assert set(timing.speeds) == set(reference_speed.LOOPS)
    assert all(speed > 0 for speed in timing.speeds.values())
    assert 0 <= timing.queued <= 1
