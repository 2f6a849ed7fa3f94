"""What made the published HBV slow, as cases: a launch a day, and all basins on one multiprocessor.

The other published pitfalls are checks elsewhere: layouts in ``test_loops.py``, the two models in
``perf_kernels.hbv.test_properties`` and in the id of every case.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from perf_workloads.hbv import MODELS, a_day_at_a_time, step

#: How nobody should launch them.
a_day_a_launch = pytest.mark.undeclared_launches("a series of one day", "DAYS", "final_gradient_ptr")


@pytest.mark.sm80
@pytest.mark.perf(time="10%", memory="1%", clock="wall", budget=0.5)
@a_day_a_launch
@pytest.mark.parametrize(("basins", "days"), [(32, 1461), (1024, 365), (1024, 1461)])
def test_a_launch_a_day(benchmark: Any, published: Any, basins: int, days: int) -> None:
    """The fused kernels called once a day, as in the published "Triton" version: the time is that of launches."""
    inputs = published.inputs(days, basins, "cuda")

    taken = benchmark(step(a_day_at_a_time(MODELS["fused"]()), inputs))

    benchmark.report("forward_time", taken.forward_s, unit="s")
    benchmark.report("backward_time", taken.backward_s, unit="s")
    published.check_discharge(taken.discharge, smooth=False)
    published.check_gradients(taken.gradient, days, smooth=False)


@pytest.mark.sm80
@pytest.mark.perf(time="3%", memory="0", clock="device", budget=0.1)
@pytest.mark.undeclared_launches("a block that leaves all multiprocessors but one idle", "DAYS", "BLOCK", "num_warps")
@pytest.mark.parametrize("block", [32, 1024])
def test_basins_of_a_program(benchmark: Any, published: Any, block: int) -> None:
    """1024 basins in 32 programs, and in one that leaves all multiprocessors but one idle.

    A day at a time, so that the threads of the large block have registers enough.
    """
    from perf_kernels.hbv import LaunchConfig
    from perf_kernels.hbv.kernel import launch_forward

    inputs = published.inputs(1461, 1024, "cuda")
    config = LaunchConfig(block=block, num_warps=block // 32, days=1, ahead=1)

    discharge = benchmark(launch_forward, *inputs, smooth=False, save=False, config=config)[0]

    published.check_discharge(discharge, smooth=False)


# In a process of its own: what it profiles would slow down the cases after it.
@pytest.mark.isolate
@pytest.mark.sm80
@pytest.mark.perf(time="10%", memory="1%", clock="wall", budget=0.1)
@a_day_a_launch
@pytest.mark.parametrize("implementation", ["fused", "a_launch_a_day", "eager"])
def test_launches(benchmark: Any, torch: ModuleType, published: Any, implementation: str) -> None:
    """Kernels of a training step of 100 days, counted in a pass that is not timed."""
    from perfgate.profile import capture

    days = 100
    model = MODELS["eager" if implementation == "eager" else "fused"]()
    if implementation == "a_launch_a_day":
        model = a_day_at_a_time(model)
    call = step(model, published.inputs(days, 32, "cuda"))

    benchmark(call)

    profile = capture(call, warmed_up=True)
    benchmark.record("launches", profile.launches, limit="0")
    expected = {"fused": 1, "a_launch_a_day": days, "eager": 0}[implementation]
    for kernel in ("_forward_kernel", "_backward_kernel"):
        assert sum(count for name, count in profile.kernels.items() if kernel in name) == expected
    assert implementation != "eager" or profile.launches > 50 * days


@pytest.mark.cpu
@pytest.mark.perf(time="20%", clock="wall", budget=0.2)
def test_cpu_operators(benchmark: Any, corner: Any) -> None:
    """Operators of an eager training step of ten days: what a GPU would launch, counted."""
    from perfgate.profile import capture

    call = step(MODELS["eager"](), corner.inputs(10, 32, "cpu"))

    benchmark(call)

    profile = capture(call, warmed_up=True)
    operators = sum(operator.calls for operator in profile.operators if operator.name.startswith("aten::"))
    benchmark.record("operators", operators, limit="0")
