"""Which implementation of a loop ran in fact, whatever was asked for? Read from the operators of a training step.

torch falls back without a word: ``PYTORCH_JIT=0`` and ``TORCH_COMPILE_DISABLE=1`` leave Python, a compiled day that is
called with something new is compiled anew while it is timed, and results are right all the time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from perf_workloads.hbv.drivers import Step
from perf_workloads.implementation import WrongImplementation, operators
from perf_workloads.implementation import nothing_compiled as nothing_compiled

#: Gradients of powers that plain autograd computes for one day: nothing else does.
_POWERS = 2
#: What torch calls the whole of the scripted loop: the name of its function.
_SCRIPTED = "series"
#: A call of a graph of the scripted loop that was specialised, with a gradient of its own.
_SPECIALISED = "torch::jit::(anonymous namespace)::DifferentiableGraphBackward"
#: A call of one that was specialised for other tensors: TorchScript runs the graph as it was before.
_FELL_BACK = "fallback_function"
#: Passes of a compiled day, forward and back.
_COMPILED = ("CompiledFunction", "CompiledFunctionBackward")
#: Calls of ``aten::pow`` by a day of plain operators, forward and back. What inductor generated makes none.
_PLAIN_POWERS = 4
#: Operators of a step that replays: views of its results. A single day has hundreds.
_VIEWS = 10


def assert_implementation(implementation: str, call: Callable[[], Step], days: int) -> str:
    """Check that a training step is computed by what the case names.

    Args:
        implementation: "eager", "torchscript", "compile" or "cudagraph".
        call: a step that has run before. That of "cudagraph" gives its results in the same memory every time.
        days: of that step.

    Returns:
        One line on what ran.

    Raises:
        WrongImplementation: something else ran.
    """
    if implementation == "cudagraph":
        return _assert_replayed(call)
    ran = operators(call)
    told = {"eager": _eager, "torchscript": _scripted, "compile": _compiled}[implementation](ran, days)
    if told is None:
        raise WrongImplementation(
            f"asked for {implementation}, and in {days} days ran {_counts(ran)}, {ran['aten::pow']} aten::pow"
        )
    return told


def _eager(ran: Mapping[str, int], days: int) -> str | None:
    gradients, *others = _found(ran).values()
    return "eager: plain operators every day" if gradients == _POWERS * days and not any(others) else None


def _scripted(ran: Mapping[str, int], days: int) -> str | None:
    found = _found(ran)
    graphs, fell_back = found[_SPECIALISED] / days, found[_FELL_BACK] / days
    if found[_SCRIPTED] != 1 or graphs < 1:
        return None
    return f"torchscript: {graphs:.0f} specialised graphs a day, {fell_back:.0f} fallbacks a day"


def _compiled(ran: Mapping[str, int], days: int) -> str | None:
    found = _found(ran)
    # The first day runs eagerly, see models.compiled. A graph break would make two graphs of a day.
    once_a_day = all(found[name] == days - 1 for name in _COMPILED)
    generated = ran.get("aten::pow", 0) == _PLAIN_POWERS
    if not once_a_day or not generated or found["PowBackward1"] != _POWERS or found[_SCRIPTED]:
        return None
    return "compile: one graph a day by inductor, the first day eager"


def _found(ran: Mapping[str, int]) -> dict[str, int]:
    """Count what tells implementations apart, plain autograd first."""
    names = ("PowBackward1", _SCRIPTED, _SPECIALISED, _FELL_BACK, *_COMPILED)
    return {name: ran.get(name, 0) for name in names}


def _counts(ran: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in _found(ran).items())


def _assert_replayed(call: Callable[[], Step]) -> str:
    """Check that a step fills its memory again without having torch do anything: what remains is a replay."""
    old = call()
    for result in (old.discharge, old.gradient):
        result.fill_(math.nan)
    new: list[Step] = []
    ran = operators(lambda: new.append(call()))
    launched = sum(count for name, count in ran.items() if name.startswith("aten::"))
    if launched > _VIEWS:
        raise WrongImplementation(f"asked for cudagraph, and {launched} operators of torch ran")
    if any(result.isnan().any() for result in (old.discharge, old.gradient, new[0].discharge, new[0].gradient)):
        raise WrongImplementation("asked for cudagraph, and nothing was replayed into the memory of the graph")
    return "cudagraph: two graphs replayed"
