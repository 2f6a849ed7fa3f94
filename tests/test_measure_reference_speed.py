"""How fast is the machine at this moment?"""

from __future__ import annotations

import pytest

from perfgate.measure import reference_speed
from perfgate.measure.reference_speed import BUFFER_BYTES, CHUNK_BYTES, MemoryLoop, ReferenceSpeeds


def test_there_is_no_speed_before_the_first_look() -> None:
    assert ReferenceSpeeds({"core": lambda: None}).speeds() == {}


def test_a_look_is_loops_over_seconds_and_runs_each_loop_once_untimed() -> None:
    runs: list[str] = []
    loops = {"core": lambda: runs.append("core"), "memory": lambda: runs.append("memory")}
    references = ReferenceSpeeds(loops)
    runs.clear()
    untimed: list[str] = []

    def stopwatch(work: object) -> float:
        untimed[:] = runs
        work()  # type: ignore[operator]
        return 0.5

    assert references.measure(stopwatch, 2) == {"core": 8 / 0.5, "memory": 6 / 0.5}
    assert runs == ["core"] * 9 + ["memory"] * 7
    assert untimed == ["core"] * 9 + ["memory"]


def test_speeds_are_medians_of_the_looks() -> None:
    seconds = iter([0.1, 0.4, 0.2])
    references = ReferenceSpeeds({"core": lambda: None})
    for _ in range(3):
        references.measure(lambda work: next(seconds))

    assert references.speeds() == pytest.approx({"core": 4 / 0.2})


def test_a_clock_too_coarse_for_a_look_gives_a_finite_speed() -> None:
    assert ReferenceSpeeds({"core": lambda: None}).measure(lambda work: 0.0) == {"core": 4 / 1e-9}


def test_the_core_loop_does_its_work() -> None:
    assert reference_speed.core_loop() == sum(number * number & 7 for number in range(500))


def test_the_memory_loop_goes_through_the_whole_buffer() -> None:
    loop = MemoryLoop()
    chunks = BUFFER_BYTES // CHUNK_BYTES
    starts = set()
    for _ in range(chunks):
        assert loop() == CHUNK_BYTES // 8
        starts.add(loop._next)

    assert starts == set(range(chunks))


def test_the_default_references_are_those_of_a_core_and_of_its_memory() -> None:
    references = ReferenceSpeeds()
    first, second = references.measure(), references.measure(times=3)

    assert list(first) == list(second) == ["core", "memory"] == list(references.speeds())
    assert all(1e2 < speed < 1e8 for look in (first, second) for speed in look.values())
