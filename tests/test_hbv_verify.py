"""Is it caught when another implementation of an HBV loop runs than its case names?"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from perf_kernels.hbv.inputs import published_inputs
from perf_workloads.hbv import MODELS, Model, Step, compiled, eager, step, torchscript, warm_up
from perf_workloads.hbv import day as days_of_hbv
from perf_workloads.hbv.verify import WrongImplementation, assert_implementation, nothing_compiled
from perfgate.measure.unprofiled import unprofiled

DAYS = 4
INPUTS = published_inputs(DAYS, 8)
TOLD = {
    "eager": "eager: plain operators every day",
    "torchscript": r"torchscript: [1-9]\d* specialised graphs a day, \d+ fallbacks a day",
    "compile": "compile: one graph a day by inductor, the first day eager",
}
#: What is said of days of plain torch.
PLAIN_DAYS = (
    "in 4 days ran 8 PowBackward1, 0 series, 0 torch::jit::(anonymous namespace)::DifferentiableGraphBackward, "
    "0 fallback_function, 0 CompiledFunction, 0 CompiledFunctionBackward, 16 aten::pow"
)


needs_compiler = pytest.mark.skipif(
    not shutil.which(os.environ.get("CXX", "g++")), reason="torch.compile needs a C++ compiler: install g++"
)


@pytest.fixture(autouse=True)
def nothing_is_compiled_yet() -> Iterator[None]:
    """Forget what others had compiled: how often the same day can be is limited."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def warmed_up(model: Model) -> Callable[[], Step]:
    warm_up(model, INPUTS)
    return step(model, INPUTS)


@pytest.mark.parametrize("name", ["eager", "torchscript", pytest.param("compile", marks=needs_compiler)])
def test_what_was_asked_for_ran(name: str) -> None:
    call = warmed_up(MODELS[name]())
    # A profiler would slow down what is timed afterwards.
    with nothing_compiled(), unprofiled():
        told = assert_implementation(name, call, DAYS)
    assert re.fullmatch(TOLD[name], told)
    for other in TOLD.keys() - {name}:
        with pytest.raises(WrongImplementation, match=f"^asked for {other}, and in 4 days ran "):
            assert_implementation(other, call, DAYS)


def test_compilation_that_is_switched_off_is_caught() -> None:
    with torch.compiler.set_stance("force_eager"), pytest.raises(WrongImplementation) as raised:
        assert_implementation("compile", warmed_up(compiled()), DAYS)
    assert str(raised.value) == f"asked for compile, and {PLAIN_DAYS}"


def test_a_day_that_is_traced_and_not_generated_is_caught() -> None:
    with pytest.raises(WrongImplementation, match="3 CompiledFunctionBackward, "):
        assert_implementation("compile", warmed_up(compiled(backend="aot_eager")), DAYS)


@needs_compiler
def test_a_graph_break_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    compile_it, a_day = torch.compile, days_of_hbv.day

    def broken(p: Any, t: Any, *others: Any) -> Any:
        p = p * 1
        torch._dynamo.graph_break()
        return a_day(p, t, *others)

    monkeypatch.setattr(days_of_hbv, "day", broken)
    monkeypatch.setattr(torch, "compile", lambda call, **options: compile_it(call, **{**options, "fullgraph": False}))
    with pytest.raises(WrongImplementation, match="asked for compile, and in 4 days ran"):
        assert_implementation("compile", warmed_up(compiled()), DAYS)


def test_compiling_again_while_steps_are_timed_is_caught() -> None:
    """Whatever makes code of the graphs: without that it takes a second."""
    model = compiled(backend="eager")
    warmed_up(model)
    with pytest.raises(WrongImplementation) as raised, nothing_compiled():
        step(model, published_inputs(DAYS, 16))()
    assert str(raised.value) == "torch.compile compiled 1 graphs while steps were timed"


def test_a_script_that_stays_python_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with ``PYTORCH_JIT=0``."""
    monkeypatch.setattr(torch.jit._state._enabled, "enabled", False)
    with pytest.raises(WrongImplementation) as raised:
        assert_implementation("torchscript", warmed_up(torchscript()), DAYS)
    assert str(raised.value) == f"asked for torchscript, and {PLAIN_DAYS}"


def test_a_script_that_is_not_specialised_is_caught() -> None:
    with torch.jit.optimized_execution(False), pytest.raises(WrongImplementation, match="8 PowBackward1, 1 series, 0 "):
        assert_implementation("torchscript", warmed_up(torchscript()), DAYS)


def test_every_script_is_specialised_for_its_own_calls() -> None:
    """Not for those of an earlier case: the other model, or other sizes, would fall back from its graphs."""
    warmed_up(torchscript())
    with pytest.raises(WrongImplementation, match="8 PowBackward1, 1 series, 0 "):
        assert_implementation("torchscript", step(torchscript(), INPUTS), DAYS)


class Graphs:
    """A step that gives its results in the same memory every time, as replays of CUDA graphs do.

    Args:
        fill: puts them there.
    """

    def __init__(self, fill: Callable[[Step, Step], None]) -> None:
        self._right = warmed_up(eager())()
        self._held = Step(self._right.discharge.clone(), self._right.gradient.clone(), 0.0, 0.0)
        self._fill = fill

    def __call__(self) -> Step:
        self._fill(self._held, self._right)
        return Step(self._held.discharge.detach(), self._held.gradient, 0.0, 0.0)


def replay(held: Step, right: Step) -> None:
    held.discharge.copy_(right.discharge)
    held.gradient.copy_(right.gradient)


def replay_forward(held: Step, right: Step) -> None:
    held.discharge.copy_(right.discharge)


def replay_backward(held: Step, right: Step) -> None:
    held.gradient.copy_(right.gradient)


def run_eagerly(held: Step, right: Step) -> None:
    replay(held, step(eager(), INPUTS)())


def test_replays_are_told() -> None:
    assert assert_implementation("cudagraph", Graphs(replay), DAYS) == "cudagraph: two graphs replayed"


@pytest.mark.parametrize("fill", [replay_forward, replay_backward])
def test_a_graph_that_is_not_replayed_is_caught(fill: Callable[[Step, Step], None]) -> None:
    """Results of earlier replays are still there, and right."""
    with pytest.raises(WrongImplementation) as raised:
        assert_implementation("cudagraph", Graphs(fill), DAYS)
    assert str(raised.value) == "asked for cudagraph, and nothing was replayed into the memory of the graph"


@pytest.mark.parametrize("make", [lambda: Graphs(run_eagerly), lambda: warmed_up(eager())], ids=["held", "new"])
def test_operators_instead_of_a_replay_are_caught(make: Callable[[], Callable[[], Step]]) -> None:
    with pytest.raises(WrongImplementation, match=r"^asked for cudagraph, and \d{3,} operators of torch ran$"):
        assert_implementation("cudagraph", make(), DAYS)
