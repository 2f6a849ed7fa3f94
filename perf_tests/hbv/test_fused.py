"""The fused HBV kernels: the published grid of basins and days, and what the published benchmark has not.

All days are one launch forward and one back. ``hard`` and ``smooth`` are two models; neither's figure says anything of
the other's. Times are the device's own, with a cold L2 cache.
"""

from __future__ import annotations

import functools
import itertools
from types import ModuleType
from typing import Any

import pytest

from perf_workloads.hbv import MODELS, routed, step

BASINS = (32, 64, 128, 256, 512, 1024)
DAYS = (100, 365, 730, 1461)
MANY_BASINS = 65536
#: The whole grid of the hard model, its ends of the smooth one.
GRID = [
    pytest.param(model, basins, days, id=f"fused-{model}-{basins}-{days}")
    for model, sizes in (("hard", BASINS), ("smooth", (32, 1024)))
    for basins, days in itertools.product(sizes, DAYS)
]


@pytest.mark.sm80
@pytest.mark.perf(time="3%", memory="0", clock="device", budget=0.1)
@pytest.mark.parametrize(("model", "basins", "days"), GRID)
def test_fused_forward(benchmark: Any, published: Any, model: str, basins: int, days: int) -> None:
    """As in training: what the backward pass needs is kept."""
    discharge = time_forward(benchmark, published.inputs(days, basins, "cuda"), model)
    report_error(benchmark, published, discharge, model)


@pytest.mark.sm80
@pytest.mark.perf(time="3%", memory="0", clock="device", budget=0.1)
@pytest.mark.parametrize(("model", "basins", "days"), GRID)
def test_fused_backward(benchmark: Any, torch: ModuleType, published: Any, model: str, basins: int, days: int) -> None:
    """From the gradient of a sum to those of the 14 parameters; also the peak memory of a step, inputs included."""
    inputs = published.inputs(days, basins, "cuda")
    gradient = time_backward(benchmark, torch, inputs, model)
    published.check_gradients(gradient, days, smooth=model == "smooth")
    benchmark.record("step_memory", step_memory(torch, inputs, model), unit="B", limit="1%")


@pytest.mark.sm80
@pytest.mark.vram(16)
@pytest.mark.perf(time="2%", memory="0", clock="device")
@pytest.mark.parametrize("model", ["hard", "smooth"])
@pytest.mark.parametrize("direction", ["inference", "forward", "backward"])
def test_many_basins(benchmark: Any, torch: ModuleType, many: Any, direction: str, model: str) -> None:
    """Enough basins to be limited by memory bandwidth; the work is stated, so that its share is shown."""
    inputs = many.inputs(DAYS[-1], MANY_BASINS, "cuda")
    if direction == "backward":
        gradient = time_backward(benchmark, torch, inputs, model)
        assert gradient.isfinite().all()
        many.check_gradients(gradient, DAYS[-1], smooth=model == "smooth")
    else:
        discharge = time_forward(benchmark, inputs, model, save=direction == "forward")
        report_error(benchmark, many, discharge, model)


@pytest.mark.sm80
@pytest.mark.perf(time="3%", memory="0", clock="device", budget=0.1)
def test_routed_forward(benchmark: Any, torch: ModuleType, published: Any) -> None:
    """What routing to the outlet adds to a run without gradients: a convolution with each basin's unit hydrograph."""
    from perf_kernels.hbv import hbv, route

    *forcings, parameters, initial = published.inputs(1461, 1024, "cuda")
    routing = routing_parameters(torch, 1024)

    def run(*series: Any) -> Any:
        return hbv(*series, parameters, initial=initial, routing=routing)[0]

    with torch.no_grad():
        arrived = benchmark(run, *forcings)
        discharge, _ = hbv(*forcings, parameters, initial=initial)

    published.check_discharge(discharge, smooth=False)
    expected = route(discharge.double(), *(each.double() for each in routing))
    torch.testing.assert_close(arrived.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.sm80
@pytest.mark.perf(time="10%", memory="1%", clock="wall", budget=0.5)
@pytest.mark.parametrize("model", ["plain", "routed"])
def test_training_step(benchmark: Any, torch: ModuleType, published: Any, model: str) -> None:
    """A step as a user takes it, launches and autograd included; what routing adds to it."""
    from perf_kernels.hbv import route

    inputs = published.inputs(1461, 1024, "cuda")
    a, b = routing_parameters(torch, 1024)
    fused = MODELS["fused"]()
    taken = benchmark(step(fused if model == "plain" else routed(fused, lambda q: route(q, a, b)), inputs))
    assert taken.gradient.isfinite().all()
    if model == "plain":
        published.check_discharge(taken.discharge, smooth=False)
        published.check_gradients(taken.gradient, 1461, smooth=False)


@pytest.mark.sm80
@pytest.mark.parametrize("model", ["hard", "smooth"])
def test_goals(torch: ModuleType, published: Any, model: str) -> None:
    """1024 basins, 1461 days on an H200: forward 1.0 ms, backward 3 ms, 45 MB for a step with all its inputs."""
    if "H200" not in torch.cuda.get_device_name():
        pytest.skip("the goals are stated for an H200")
    from perf_kernels.hbv.kernel import launch_backward, launch_forward
    from perfgate.measure.device import time_device

    inputs = published.inputs(1461, 1024, "cuda")
    there = functools.partial(launch_forward, smooth=model == "smooth", save=True)
    back = functools.partial(launch_backward, smooth=model == "smooth", forcings=False)
    _, _, soil, checkpoint = there(*inputs)
    one = torch.ones((), device="cuda").expand(1461, 1024)

    assert time_device(there, tuple(inputs), budget_s=0.1).median_s <= 1.0e-3
    assert time_device(back, (*inputs[:4], soil, checkpoint, one, None), budget_s=0.1).median_s <= 3.0e-3
    assert step_memory(torch, inputs, model) <= 45e6


def time_forward(benchmark: Any, inputs: Any, model: str, *, save: bool = True) -> Any:
    """Time the forward launch and give the discharge [T, B]."""
    from perf_kernels.hbv import bytes_moved
    from perf_kernels.hbv.kernel import launch_forward

    benchmark.work(bytes=bytes_moved(*inputs.precipitation.shape, save=save))
    return benchmark(launch_forward, *inputs, smooth=model == "smooth", save=save)[0]


def time_backward(benchmark: Any, torch: ModuleType, inputs: Any, model: str) -> Any:
    """Time the backward launch and give the gradients of the parameters [14, B]."""
    from perf_kernels.hbv import bytes_moved_backward
    from perf_kernels.hbv.kernel import launch_backward, launch_forward

    smooth = model == "smooth"
    _, _, soil, checkpoint = launch_forward(*inputs, smooth=smooth, save=True)
    shape = inputs.precipitation.shape
    one = torch.ones((), device=soil.device).expand(shape)
    benchmark.work(bytes=bytes_moved_backward(*shape))
    return benchmark(launch_backward, *inputs[:4], soil, checkpoint, one, None, smooth=smooth, forcings=False)[0]


def report_error(benchmark: Any, published: Any, discharge: Any, model: str) -> None:
    """Check a discharge, and report its error as a share of what rounding explains."""
    benchmark.report("discharge_error", published.check_discharge(discharge, smooth=model == "smooth"))


def step_memory(torch: ModuleType, inputs: Any, model: str) -> int:
    """Give the peak allocated bytes of a training step from nothing: with those of its inputs."""
    from perfgate.measure.device_memory import peak_memory

    call = step(MODELS["fused"](smooth=model == "smooth"), inputs)
    call()
    return int(peak_memory(call).peak_bytes + sum(tensor.nbytes for tensor in inputs))


def routing_parameters(torch: ModuleType, basins: int) -> tuple[Any, Any]:
    """Give shape and scale of each basin's unit hydrograph, over the ranges in which they are useful."""
    return torch.linspace(0, 2.9, basins, device="cuda"), torch.linspace(0, 6.5, basins, device="cuda")
