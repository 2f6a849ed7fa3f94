"""Does the goal of converting weights on a CPU hold, miss or leave open, whatever else the machine does?"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType

import pytest

from perfgate.measure.cpu_conditions import CpuConditions


@pytest.fixture
def cases(monkeypatch: pytest.MonkeyPatch, imported: Callable[[str], ModuleType]) -> ModuleType:
    """Import the cases; nothing is converted."""
    module = imported("perf_tests/slidesparse/test_sparse_weights.py")
    monkeypatch.setattr(module, "prepare", lambda *_: (None, None, None))
    return module


def judge(cases: ModuleType, monkeypatch: pytest.MonkeyPatch, calls: list[tuple[float, float]]) -> int:
    """Run the case on scripted calls, seconds and others' cores each; give how many were made."""
    left = iter(calls)
    made = []

    def watched(_: object) -> tuple[float, float]:
        made.append(next(left))
        return made[-1]

    monkeypatch.setattr(cases, "watched", watched)
    cases.test_convert_weight_cpu_within_the_goal(ModuleType("torch"))
    return len(made)


def test_one_call_within_the_goal_reaches_it(cases: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    assert judge(cases, monkeypatch, [(3.0, 1.5), (2.1, 0.0), (2.0, 1.0)]) == 3


@pytest.mark.parametrize(
    ("calls", "told"),
    [
        ([(2.2, 0.1)] * 8, "2.20 s while others used 0.1 cores"),
        ([(14.0, 1.2), (16.0, 0.0)], "16.00 s while others used 0.0 cores"),
    ],
)
def test_a_miss_on_a_machine_at_rest_fails(
    cases: ModuleType, monkeypatch: pytest.MonkeyPatch, calls: list[tuple[float, float]], told: str
) -> None:
    with pytest.raises(pytest.fail.Exception) as failed:
        judge(cases, monkeypatch, calls)
    assert str(failed.value) == f"{told}, the goal is 2 s on two cores"


def test_a_miss_beside_others_is_left_open(cases: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(pytest.skip.Exception) as skipped:
        judge(cases, monkeypatch, [(12.0, 1.3), (20.0, 0.9)])
    assert str(skipped.value) == ("inconclusive: 12.00 s while others used 1.3 cores, the goal is 2 s on two cores")


@pytest.mark.parametrize(
    ("seen", "others"),
    [
        ({"cpu_elapsed_s": 2.5, "cpu_own": 1.9, "cpu_others": 0.5, "cpu_stolen": 0.25}, 0.75),
        ({"cpu_elapsed_s": 2.5, "cpu_own": 1.9}, math.inf),
    ],
)
def test_others_are_read_from_the_machine(
    cases: ModuleType, monkeypatch: pytest.MonkeyPatch, seen: dict[str, float], others: float
) -> None:
    """Where nobody counts, others may have used any number of cores."""
    monkeypatch.setattr(CpuConditions, "report", lambda _: seen)
    assert cases.watched(lambda: None) == (2.5, others)
