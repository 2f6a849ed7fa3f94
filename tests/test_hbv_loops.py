"""Do long cases of HBV's loops keep to their budget, and say so where they cannot?"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from perf_kernels.hbv.inputs import published_inputs
from perf_workloads.hbv import eager, step

DAYS = 100
#: Seconds that a step is expected to take.
STEP_S = 6.0


@pytest.fixture
def loops(
    monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config, imported: Callable[[str], ModuleType]
) -> ModuleType:
    """Import the cases, with eager torch on a CPU in place of whatever they run on a GPU, and a clock that stands."""
    # The conftest of the cases declares it, which is not in use here.
    pytestconfig.addinivalue_line("markers", "slow: a long experiment")
    module = imported("perf_tests/hbv/test_loops.py")
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: 100.0))
    monkeypatch.setattr(module, "ROUNDS", {DAYS: 1})
    monkeypatch.setattr(module, "warmed_up", lambda *_: eager())
    monkeypatch.setattr(module, "graphed", lambda inputs: step(eager(), inputs))
    monkeypatch.setattr(module, "expected_s", lambda *_: STEP_S)
    monkeypatch.setattr(module, "assert_implementation", lambda *_: "checked")
    monkeypatch.setattr(module, "PeakMemory", lambda _: SimpleNamespace(peak_bytes=lambda: 0))
    return module


class Benchmark:
    """Takes what a case states, and calls what it times once."""

    def __init__(self) -> None:
        self.stated: dict[str, Any] = {}
        self.told_at_once: list[str] = []

    def pedantic(self, call: Any, *, rounds: int) -> None:
        call()

    def record(self, name: str, value: float, **_: Any) -> None:
        self.stated[name] = value

    def note(self, name: str, text: str) -> None:
        self.stated[name] = text

    report = record

    def progress(self, text: str, *, at_once: bool = False) -> None:
        if at_once:
            self.told_at_once.append(text)


def run(loops: ModuleType, implementation: str, budget_s: float | None) -> Benchmark:
    """Run a case; None as a budget means that it is not slow."""
    benchmark = Benchmark()
    published = SimpleNamespace(
        inputs=lambda days, basins, device: published_inputs(days, basins),
        check_discharge=lambda *_, smooth: 0.0,
        check_gradients=lambda *_, smooth: None,
    )
    request = SimpleNamespace(
        node=SimpleNamespace(get_closest_marker=lambda name: None if budget_s is None else name),
        getfixturevalue={"slow_budget_s": budget_s}.__getitem__,
    )
    loops.test_loop(benchmark, torch, published, implementation, 4, DAYS, request)
    return benchmark


@pytest.mark.parametrize(("implementation", "steps"), [("compile", 1), ("cudagraph", 2)])
def test_a_case_beyond_its_budget_is_an_outcome(loops: ModuleType, implementation: str, steps: int) -> None:
    budget_s = steps * STEP_S - 0.5
    with pytest.raises(pytest.skip.Exception) as skipped:
        run(loops, implementation, budget_s)
    assert str(skipped.value) == f"takes about {steps * STEP_S:g} s: --slow-budget={budget_s:g}"
    assert run(loops, implementation, steps * STEP_S).stated["implementation"] == "checked"


def test_what_has_passed_counts(loops: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling takes most of the time, and nobody knows how much before."""
    now_s = iter([100.0, 130.0])
    monkeypatch.setattr(loops.time, "monotonic", lambda: next(now_s))
    with pytest.raises(pytest.skip.Exception) as skipped:
        run(loops, "compile", 35.0)
    assert str(skipped.value) == "takes about 36 s: --slow-budget=35"


@pytest.mark.parametrize("implementation", ["eager", "torchscript", "compile", "cudagraph"])
def test_cases_that_are_not_slow_have_no_budget(loops: ModuleType, implementation: str) -> None:
    stated = run(loops, implementation, None).stated
    assert stated["implementation"] == "checked"
    assert stated["step_memory"] > 0


@pytest.mark.parametrize("implementation", ["eager", "torchscript", "compile", "cudagraph"])
def test_compiling_and_capturing_is_told_before(loops: ModuleType, implementation: str) -> None:
    expected = [f"{implementation}: compiling or capturing"] if implementation in ("compile", "cudagraph") else []
    assert run(loops, implementation, None).told_at_once == expected
