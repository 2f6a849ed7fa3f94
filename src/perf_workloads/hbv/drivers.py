"""How is a training step of HBV run and timed in parts: forward, back, captured in CUDA graphs, a day at a time?

The loss is the sum of the discharge, as in the published benchmark; gradients are those of the 14 parameters.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from perf_workloads.hbv.models import Model, eager

#: Days of the first, untimed calls: they load kernels, and compile or specialise what runs every day.
WARM_UP_DAYS = 10
#: TorchScript looks at two calls before it specialises, and at two more going back.
WARM_UP_CALLS = 4


@dataclass(frozen=True)
class Step:
    """What one training step gave, and the seconds of its parts.

    Attributes:
        discharge: [T, B].
        gradient: [14, B].
        forward_s: from the inputs to the discharge.
        backward_s: from the discharge to the gradient. On a CPU both are seconds that the calling thread worked, which
            is all of the work as long as torch has one thread.
    """

    discharge: Any = field(repr=False)
    gradient: Any = field(repr=False)
    forward_s: float
    backward_s: float


def step(model: Model, inputs: Sequence[Any]) -> Callable[[], Step]:
    """Give a call that runs a training step, its parts timed up to the end of their work on the device.

    Args:
        model: takes ``inputs``.
        inputs: three forcings, parameters, initial storages.
    """
    import torch

    leaves = with_gradients(inputs)

    def forward() -> Any:
        return model(*leaves)[0]

    def backward(q: Any) -> Any:
        return torch.autograd.grad(q.sum(), leaves[3])[0]

    if not leaves[0].is_cuda:
        return _timed(forward, backward, time.thread_time)
    return _timed(forward, backward, _device_done)


def graphed(inputs: Sequence[Any], *, smooth: bool = False) -> Callable[[], Step]:
    """Capture a training step of the eager model in two CUDA graphs, and give a call that replays them.

    Args:
        inputs: on a GPU; replays read what lies in them then.
        smooth: which of the two models.

    Returns:
        A call whose results are in the same memory every time.
    """
    import torch

    model = eager(smooth=smooth)
    # On a stream of its own, as capture asks for.
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        warm_up(model, inputs, calls=1)
    torch.cuda.current_stream().wait_stream(stream)

    leaves = with_gradients(inputs)
    there, back = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
    with torch.cuda.graph(there):
        q = model(*leaves)[0]
    one = torch.ones((), dtype=q.dtype, device=q.device).expand(q.shape)
    with torch.cuda.graph(back, pool=there.pool()):
        (gradient,) = torch.autograd.grad(q, leaves[3], one)
    result = q.detach()

    def forward() -> Any:
        there.replay()
        return result

    def backward(_: Any) -> Any:
        back.replay()
        return gradient

    return _timed(forward, backward, _device_done)


def warm_up(model: Model, inputs: Sequence[Any], *, calls: int = WARM_UP_CALLS) -> None:
    """Run training steps of a few days."""
    call = step(model, few_days(inputs))
    for _ in range(calls):
        call()


def few_days(inputs: Sequence[Any]) -> list[Any]:
    """Give the inputs of the first days, which are enough for all that does not depend on how many there are."""
    return [*(tensor[:WARM_UP_DAYS] for tensor in inputs[:3]), *inputs[3:]]


def expected_s(model: Model, inputs: Sequence[Any]) -> float:
    """Give the seconds that a training step should take, by one of a few days: a loop takes as long for each.

    Args:
        model: a loop that is warmed up.
        inputs: of the whole step.
    """
    few = few_days(inputs)
    taken = step(model, few)()
    return (taken.forward_s + taken.backward_s) * len(inputs[0]) / len(few[0])


def a_day_at_a_time(model: Model) -> Model:
    """Give a model that calls another one for each day, and carries the storages in between.

    With a model that is one launch this is a launch a day, as in the published benchmark: the time is that of launches.
    """
    import torch

    def daily(precipitation: Any, temperature: Any, pet: Any, parameters: Any, initial: Any) -> tuple[Any, Any]:
        storages, discharge = initial, []
        for forcing in zip(precipitation.split(1), temperature.split(1), pet.split(1), strict=True):
            q, storages = model(*forcing, parameters, storages)
            discharge.append(q)
        return torch.cat(discharge), storages

    return daily


def routed(model: Model, route: Callable[[Any], Any]) -> Model:
    """Give a model whose discharge is routed to the outlet."""

    def with_routing(*inputs: Any) -> tuple[Any, Any]:
        q, storages = model(*inputs)
        return route(q), storages

    return with_routing


def basins_first(inputs: Sequence[Any]) -> list[Any]:
    """Give the same forcings in memory as ``[basins, days]``: the days of a basin lie side by side, a day does not."""
    return [*(tensor.t().contiguous().t() for tensor in inputs[:3]), *inputs[3:]]


def with_gradients(inputs: Sequence[Any]) -> list[Any]:
    """Give the inputs with the parameters as a leaf of their own that wants gradients."""
    return [tensor.detach().requires_grad_(number == 3) for number, tensor in enumerate(inputs)]


def _timed(
    forward: Callable[[], Any], backward: Callable[[Any], Any], clock: Callable[[], float]
) -> Callable[[], Step]:
    def call() -> Step:
        begin = clock()
        q = forward()
        middle = clock()
        gradient = backward(q)
        return Step(q.detach(), gradient, middle - begin, clock() - middle)

    return call


def _device_done() -> float:
    """Wait for the GPU and read the clock."""
    import torch

    torch.cuda.synchronize()
    return time.perf_counter()
