"""What do the forms of ternary weights gain and cost on a CPU? Two calls of each pair, in turns.

In turns means in one process and one thread, by its CPU time, so that neither neighbours nor a changing clock decide.
A goal is missed when the interval of the ratio lies below it; where the interval holds the goal, the outcome is a skip.
Nothing else is judged here, so that a skip hides nothing: ``test_linear_layers.py`` gates the times of each form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from perf_workloads.bitnet import LAYERS
from perf_workloads.bitnet.compare import Ratio, time_ratio

pytestmark = [pytest.mark.cpu, pytest.mark.filterwarnings("ignore:Benchmark fixture was not used")]
SEED = 23
#: A goal that is known to be missed: the test is run, and expected to fail; below the floor it fails all the same.
KEY_MISSED = pytest.mark.xfail(
    raises=AssertionError,
    strict=False,
    reason="missed: 2.46 to 2.73 x of 3 x on a Xeon at 2.5 GHz, 2026-11-22: quantising activations and scaling "
    "outputs, which all forms do, take 0.4 of the int8 call of so narrow a layer",
)
KEY_FLOOR = 2.0


@pytest.fixture(autouse=True)
def one_thread(torch: ModuleType) -> Iterator[None]:
    """Let torch use one thread without gradients, as timed cases do."""
    from perfgate.measure.threads import pinned

    with pinned(1), torch.inference_mode():
        yield


@pytest.mark.parametrize(("tokens", "goal"), [(1, 1.5), (32, 3.0)])
@pytest.mark.parametrize("layer", ["up", "down"])
def test_int8_is_faster_than_fp32(benchmark: Any, torch: ModuleType, layer: str, tokens: int, goal: float) -> None:
    """The goal: int8 weights, quantised once, against fp32 weights, quantised once."""
    compare(benchmark, int8_and_fp32(torch, layer, tokens), goal)


@KEY_MISSED
def test_int8_is_faster_than_fp32_on_the_narrowest_layer(benchmark: Any, torch: ModuleType) -> None:
    """The same goal at 32 tokens of key and value, which is missed."""
    compare(benchmark, int8_and_fp32(torch, "key", 32), 3.0, floor=KEY_FLOOR)


def test_online_quantisation_is_an_anti_pattern(benchmark: Any, torch: ModuleType) -> None:
    """Quantising the weights in every call takes most of the call; the result is the same.

    On a wide layer, as published: those of a narrow one are so short, and its weights so well kept in a large cache,
    that four tries on an AMD EPYC gave ratios of 2.6 to 6.6. Here it is 19.
    """
    from perf_workloads.bitnet.layers import ternary_linear

    master = draw(torch, "up")
    x = torch.randn((1, master.shape[1]), generator=torch.Generator().manual_seed(SEED))
    layers = {method: ternary_linear(method, master) for method in ("online", "fp32")}
    assert torch.equal(layers["online"](x), layers["fp32"](x))

    compare(benchmark, {method: lambda layer=layer: layer(x) for method, layer in layers.items()}, 3)


def test_weights_are_not_copied_into_columns(benchmark: Any, torch: ModuleType) -> None:
    """``torch._int_mm`` takes rows of weights through a transposed view; a contiguous [K, N] copy is slower."""
    from perf_workloads.bitnet.layers import ternary_linear

    layer = ternary_linear("int8", draw(torch, "up"))
    assert layer.codes.is_contiguous()
    assert layer.codes.shape == (6912, 2560)
    q = torch.randint(-127, 128, (1, 2560), dtype=torch.int8, generator=torch.Generator().manual_seed(SEED))
    columns = layer.codes.t().contiguous()
    assert torch.equal(torch._int_mm(q, layer.codes.t()), torch._int_mm(q, columns))

    calls = {
        "columns": lambda: torch._int_mm(q, columns),
        "rows": lambda: torch._int_mm(q, layer.codes.t()),
    }
    compare(benchmark, calls, 1.5)


def int8_and_fp32(torch: ModuleType, layer: str, tokens: int) -> dict[str, Callable[[], object]]:
    """Give a call of a layer with fp32 weights, and one with int8 weights; both give the same outputs."""
    from perf_workloads.bitnet.layers import ternary_linear

    master = draw(torch, layer)
    x = torch.randn((tokens, master.shape[1]), generator=torch.Generator().manual_seed(SEED))
    layers = {method: ternary_linear(method, master) for method in ("fp32", "int8")}
    if not torch.equal(layers["fp32"](x), layers["int8"](x)):
        pytest.fail("the outputs of fp32 and int8 weights differ")
    return {method: lambda layer=layer: layer(x) for method, layer in layers.items()}


def draw(torch: ModuleType, layer: str) -> Any:
    """Draw the master weights [N, K] of a layer."""
    from perf_workloads.bitnet.weights import RandomWeights

    inputs, outputs = LAYERS[layer]
    return RandomWeights(SEED, inputs**-0.5, "cpu", torch.bfloat16)(layer, (outputs, inputs))


def compare(benchmark: Any, calls: dict[str, Callable[[], object]], goal: float, floor: float | None = None) -> None:
    """Time two calls in turns, and report that; the first takes ``goal`` times as long as the second, or more.

    A goal that is known to be missed has a ``floor``: below it, it is missed by more than ever.
    """
    benchmark.profile(lambda: [call() for call in calls.values()])
    found = time_ratio(*calls.values(), goal=goal, progress=benchmark.progress)
    for name, seconds in zip(calls, (found.first_s, found.second_s), strict=True):
        benchmark.report(f"{name}_time", seconds, unit="s")
    benchmark.report("ratio", found.median)
    if floor is not None and found.high < goal:
        known = found.low >= floor
        beside = found if known else time_ratio(*calls.values(), goal=floor, progress=benchmark.progress)
        judge(beside, floor, *calls, wanted="the floor")
        raise AssertionError(told(found, goal, *calls))
    judge(found, goal, *calls)
    benchmark.note("goal", "reached")


def judge(found: Ratio, goal: float, slower: str, faster: str, wanted: str = "the goal") -> None:
    """Fail where the goal is missed, and skip where it is not known whether it is."""
    text = told(found, goal, slower, faster, wanted)
    if found.high < goal:
        pytest.fail(text)
    if found.low < goal:
        pytest.skip(f"inconclusive: {text}")


def told(found: Ratio, goal: float, slower: str, faster: str, wanted: str = "the goal") -> str:
    """Say what was found beside what is wanted."""
    return f"{slower} takes {found} as long as {faster}, and {goal:g} times is {wanted}"
