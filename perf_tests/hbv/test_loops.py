"""HBV as a loop over days, in four implementations that the fused kernels are compared with.

Eager torch, TorchScript, ``torch.compile`` of a day, and the eager model captured in CUDA graphs: what each of them
gains over the one before says what the fused kernels owe to fewer launches, and what to fewer passes over memory. A
call is a training step, its parts timed apart; the first published figures are of a loop like these. Which of them ran
is read from the operators of a further step, and noted.

Steps of 1461 days take seconds. A series of ten days warms up, one to four rounds follow, and the allocator's peak over
them is read: it counts whether or not anybody looks.
"""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Callable
from statistics import median
from types import ModuleType
from typing import Any

import pytest

from perf_workloads.hbv import MODELS, Step, basins_first, expected_s, few_days, graphed, step, warm_up
from perf_workloads.hbv.verify import assert_implementation, nothing_compiled

BASINS = (32, 64, 128, 256, 512, 1024)
DAYS = (100, 365, 730, 1461)
#: Times that a step of so many days is taken. Processes differ by more than rounds of one, and there are five.
ROUNDS = {100: 4, 365: 2, 730: 1, 1461: 1}
#: Basins change little in a loop that waits for launches, and compiling or capturing takes long: other sizes are slow.
SHORT = {"eager": BASINS, "torchscript": BASINS, "compile": (1024,), "cudagraph": (32, 1024)}
#: Eager steps that a capture and all rounds of replays take at the most.
CAPTURE_STEPS = 2
GRID = [
    pytest.param(
        implementation,
        basins,
        days,
        id=f"{implementation}-hard-{basins}-{days}",
        marks=[] if basins in short else [pytest.mark.slow],
    )
    for implementation, short in SHORT.items()
    for basins, days in itertools.product(BASINS, DAYS)
]
#: The corner of the grid that a CPU gets through in seconds.
CORNER = [
    pytest.param(*case, id="-".join(map(str, case)))
    for case in (
        ("eager", "hard", 32, 100),
        ("eager", "hard", 32, 365),
        ("eager", "smooth", 32, 100),
        ("torchscript", "hard", 32, 100),
        ("compile", "hard", 32, 100),
    )
]


@pytest.mark.sm80
@pytest.mark.perf(time="10%", clock="wall")
@pytest.mark.parametrize(("implementation", "basins", "days"), GRID)
def test_loop(
    benchmark: Any,
    torch: ModuleType,
    published: Any,
    implementation: str,
    basins: int,
    days: int,
    request: pytest.FixtureRequest,
) -> None:
    """Sizes that are slow are skipped when they would take longer than ``--slow-budget``.

    How long compiling takes nobody knows before: it counts, and is not interrupted.
    """
    slow = request.node.get_closest_marker("slow") is not None
    budget_s = request.getfixturevalue("slow_budget_s") if slow else math.inf
    inputs = published.inputs(days, basins, "cuda")

    taken = measure(benchmark, torch, implementation, inputs, budget_s)

    assert_right(benchmark, published, taken, "hard")


@pytest.mark.sm80
@pytest.mark.perf(time="10%", clock="wall")
@pytest.mark.parametrize("implementation", ["eager", "torchscript"])
def test_basins_first(benchmark: Any, torch: ModuleType, published: Any, implementation: str) -> None:
    """The layout of the published loops, ``[basins, days]``: a day's forcings are strided."""
    inputs = basins_first(published.inputs(365, 1024, "cuda"))

    taken = measure(benchmark, torch, implementation, inputs)

    assert_right(benchmark, published, taken, "hard")


@pytest.mark.cpu
# Thousands of small blocks: what malloc keeps of them differs by a third between processes.
@pytest.mark.perf(time="20%", memory="40%", clock="wall", budget=0.3)
@pytest.mark.parametrize(("implementation", "model", "basins", "days"), CORNER)
def test_cpu_loop(benchmark: Any, corner: Any, implementation: str, model: str, basins: int, days: int) -> None:
    inputs = corner.inputs(days, basins, "cpu")

    taken = measure_on_cpu(benchmark, implementation, model, inputs)

    assert_right(benchmark, corner, taken, model)


@pytest.mark.cpu
@pytest.mark.perf(time="20%", memory="40%", clock="wall", budget=0.3)
def test_cpu_basins_first(benchmark: Any, corner: Any) -> None:
    """The layout of the published loops, ``[basins, days]``: a day's forcings are strided."""
    taken = measure_on_cpu(benchmark, "eager", "hard", basins_first(corner.inputs(100, 32, "cpu")))

    assert_right(benchmark, corner, taken, "hard")


def measure(benchmark: Any, torch: ModuleType, implementation: str, inputs: Any, budget_s: float = math.inf) -> Step:
    """Measure steps of the hard model on a GPU: both parts, and the peak memory from nothing."""
    begin_s = time.monotonic()
    rounds = ROUNDS[len(inputs[0])]
    captured = implementation == "cudagraph"
    tell_of_compiling(benchmark, implementation)
    model = warmed_up("eager" if captured else implementation, "hard", inputs)
    if budget_s < math.inf:
        left_s = (CAPTURE_STEPS if captured else rounds) * expected_s(model, inputs)
        skip_beyond(budget_s, time.monotonic() - begin_s + left_s)
    memory = PeakMemory(torch)
    # What graphs need is allocated while they are captured.
    call = graphed(inputs) if captured else step(model, inputs)
    benchmark.progress(f"{implementation}: compiled or captured, timing {len(inputs[0])} days")
    taken = Taken(call)
    with nothing_compiled():
        benchmark.pedantic(taken, rounds=rounds)
    for name, seconds in taken.medians().items():
        # Processes differ by how fast their CPU launches.
        benchmark.record(name, seconds, unit="s", limit="15%", noise="5%")
    peak = memory.peak_bytes() + sum(tensor.nbytes for tensor in inputs)
    benchmark.record("step_memory", peak, unit="B", limit="1%")
    if captured:
        benchmark.note("implementation", assert_implementation(implementation, call, len(inputs[0])))
    else:
        note_implementation(benchmark, implementation, model, inputs)
    return taken.last


def measure_on_cpu(benchmark: Any, implementation: str, model: str, inputs: Any) -> Step:
    """Measure steps on the CPU, where perfgate's own passes take time and memory of the whole step."""
    from perfgate.measure.threads import pinned

    tell_of_compiling(benchmark, implementation)
    # For another number of threads torch.compile would compile another day.
    with pinned(1):
        loop = warmed_up(implementation, model, inputs)
        taken = Taken(step(loop, inputs))
        with nothing_compiled():
            benchmark(taken)
        for name, seconds in taken.medians().items():
            # In seconds, where the time of the step is judged in cycles of the machine.
            benchmark.report(name, seconds, unit="s")
        note_implementation(benchmark, implementation, loop, inputs)
    return taken.last


def tell_of_compiling(benchmark: Any, implementation: str) -> None:
    """Show that a case goes on which compiles or captures first: that takes long, and shows nothing."""
    if implementation in ("compile", "cudagraph"):
        benchmark.progress(f"{implementation}: compiling or capturing", at_once=True)


def note_implementation(benchmark: Any, implementation: str, loop: Any, inputs: Any) -> None:
    """Check which implementation runs, by a step of a few days that nobody times."""
    few = few_days(inputs)
    benchmark.note("implementation", assert_implementation(implementation, step(loop, few), len(few[0])))


def skip_beyond(budget_s: float, needed_s: float) -> None:
    """Skip a case that takes longer than its budget: an outcome, with what it would take."""
    if needed_s > budget_s:
        pytest.skip(f"takes about {math.ceil(needed_s)} s: --slow-budget={budget_s:g}")


class Taken:
    """A call whose last result stays, but not while the next one is made, and whose times add up.

    Args:
        call: gives a step.
    """

    def __init__(self, call: Callable[[], Step]) -> None:
        self._call = call
        self._seconds: list[tuple[float, float]] = []
        self.last: Any = None

    def __call__(self) -> None:
        self.last = None
        self.last = self._call()
        self._seconds.append((self.last.forward_s, self.last.backward_s))

    def medians(self) -> dict[str, float]:
        """Give the seconds of both parts."""
        forward, backward = zip(*self._seconds, strict=True)
        return {"forward_time": median(forward), "backward_time": median(backward)}


class PeakMemory:
    """The peak of what was requested of the GPU's allocator since this was made, less what was there then."""

    def __init__(self, torch: ModuleType) -> None:
        self._memory = torch.cuda
        self._memory.synchronize()
        self._before = self._memory.memory_stats()["requested_bytes.all.current"]
        self._memory.reset_peak_memory_stats()

    def peak_bytes(self) -> int:
        """Give the peak so far."""
        self._memory.synchronize()
        return int(self._memory.memory_stats()["requested_bytes.all.peak"] - self._before)


def warmed_up(implementation: str, model: str, inputs: Any) -> Any:
    """Give a loop that has run a few days of such inputs."""
    loop = _loop(implementation, model, inputs[3].shape[1], inputs[0].is_contiguous(), inputs[3].device.type)
    warm_up(loop, inputs)
    return loop


@functools.lru_cache(maxsize=1)
def _loop(implementation: str, model: str, basins: int, contiguous: bool, device: str) -> Any:
    """Keep a loop for as long as it can be used: TorchScript and torch.compile specialise on sizes and strides."""
    return MODELS[implementation](smooth=model == "smooth")


def assert_right(benchmark: Any, published: Any, taken: Step, model: str) -> None:
    """Compare with the reference, and report the error of the discharge as a share of what rounding explains."""
    smooth = model == "smooth"
    benchmark.report("discharge_error", published.check_discharge(taken.discharge, smooth=smooth))
    published.check_gradients(taken.gradient, len(taken.discharge), smooth=smooth)
