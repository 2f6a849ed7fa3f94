"""A whole linear layer, which is what a model pays: quantise or slide, multiply, dequantise and add the bias.

At four numbers of tokens; by default gate_up and down of Qwen2.5-7B, the other layers with ``--slow-budget``.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

import pytest

from perf_workloads.slidesparse import MODELS, SCHEMES
from perf_workloads.slidesparse.schemes import find

MODEL, LAYERS = "Qwen2.5-7B", ("gate_up", "down")
#: The smallest and largest decode, a usual and the largest prefill.
TELLING_TOKENS = (64, 512, 8192, 65536)
#: Error of a layer over the size of its results: of quantised tokens, of bf16, and of FP8 sums on tensor cores.
ERRORS = {"int8": 0.02, "fp8": 0.1}
#: Goals of the project, from so many tokens on: how much faster than dense INT8 a layer is.
GOAL_TOKENS = (8192, 16384, 32768, 65536)
GOALS = {"int8-2_4": 1.6, "int8-2_8": 1.15, "int8-2_4-bf16": 1.6, "int8-2_8-bf16": 1.15}
#: Speed-ups at GOAL_TOKENS on an H200 (2026-11-22, vLLM 0.20.2). Two reach their goal, where vLLM's dense product is
#: slow: another run of that day missed it.
RATIOS = {
    ("gate_up", "int8-2_4"): (0.93, 1.17, 1.51, 1.09),
    ("down", "int8-2_4"): (1.44, 1.30, 1.36, 1.46),
    ("gate_up", "int8-2_8"): (0.75, 0.95, 0.88, 0.92),
    ("down", "int8-2_8"): (1.02, 0.98, 1.02, 1.02),
    ("gate_up", "int8-2_4-bf16"): (1.18, 1.34, 1.71, 1.22),
    ("down", "int8-2_4-bf16"): (1.41, 1.45, 1.43, 1.45),
    ("gate_up", "int8-2_8-bf16"): (0.89, 1.02, 1.23, 0.92),
    ("down", "int8-2_8-bf16"): (1.04, 1.01, 1.09, 1.05),
}
#: Both are timed so often in turns.
TURNS = 3


def case(model: str, layer: str, scheme: str, tokens: int, *, always: bool = False) -> Any:
    """Give one case of the grid."""
    marks = [pytest.mark.fp8] if scheme.startswith("fp8") else []
    if not always and not (model == MODEL and layer in LAYERS):
        marks.append(pytest.mark.slow)
    if tokens * MODELS[model][layer].outputs > 2**30:
        marks.append(pytest.mark.vram(70))
    return pytest.param(model, layer, scheme, tokens, id=f"{scheme}-{model}-{layer}-{tokens}", marks=marks)


GRID = [
    case(model, layer, scheme, tokens)
    for model in MODELS
    for layer in MODELS[model]
    for scheme in SCHEMES
    for tokens in TELLING_TOKENS
]
#: Layers whose products write scaled bf16: all of that model.
SCALED_SCHEMES, SCALED_TOKENS = ("int8-2_4-bf16", "int8-2_8-bf16"), (64, 512, 8192, 16384, 65536)
SCALED = [
    case(MODEL, layer, scheme, tokens, always=True)
    for layer in MODELS[MODEL]
    for scheme in SCALED_SCHEMES
    for tokens in SCALED_TOKENS
]
CPU = [
    pytest.param("Llama3.2-1B", "o", scheme, 64, id=f"{scheme}-Llama3.2-1B-o-64")
    for scheme in ("int8-dense", "int8-2_8", "int8-2_8-bf16", "fp8-2_8")
]


def goal_case(layer: str, scheme: str, tokens: int, ratio: float) -> Any:
    """Give a goal that is expected to be missed: it was, or was reached by chance."""
    goal = GOALS[scheme]
    how = "missed" if ratio < goal else "reached where the dense product is slow"
    reason = f"{how}: {ratio:.2f} x of {goal:g} x on an H200, 2026-11-22"
    marks = pytest.mark.xfail(raises=AssertionError, strict=False, reason=reason)
    return pytest.param(layer, scheme, tokens, marks=marks, id=f"{layer}-{scheme}-{tokens}")


GOAL_CASES = [
    goal_case(layer, scheme, tokens, ratio)
    for (layer, scheme), ratios in RATIOS.items()
    for tokens, ratio in zip(GOAL_TOKENS, ratios, strict=True)
]


@pytest.mark.sm80
@pytest.mark.perf(time="2% or 0.25us", memory="0", clock="device", budget=0.05)
@pytest.mark.parametrize(("model", "layer", "scheme", "tokens"), GRID)
def test_linear_layer(
    benchmark: Any,
    require_cusparselt: Callable[[str], None],
    slidesparse: Any,
    dense_seconds: Callable[..., float],
    report_speedup: Callable[[Any, float], None],
    model: str,
    layer: str,
    scheme: str,
    tokens: int,
) -> None:
    require_cusparselt(scheme)
    x, weights = measure(benchmark, slidesparse, model, layer, scheme, tokens, "cuda")
    if weights.scheme.group is not None:
        from perf_workloads.slidesparse.linear import linear

        dense = weights.scheme.dense
        arguments = (x, weights.dense, weights.scale, weights.bias, dense)
        report_speedup(weights.scheme, dense_seconds((model, layer, dense, tokens), linear, arguments))


@pytest.mark.sm80
@pytest.mark.perf(time="2% or 0.25us", memory="0", clock="device", budget=0.05)
@pytest.mark.parametrize(("model", "layer", "scheme", "tokens"), SCALED)
def test_scaled_linear_layer(
    benchmark: Any,
    require_cusparselt: Callable[[str], None],
    slidesparse: Any,
    model: str,
    layer: str,
    scheme: str,
    tokens: int,
) -> None:
    """The form that is rounded twice; beside the exact form of the same layer, timed in the same process."""
    require_cusparselt(scheme)
    from perf_workloads.slidesparse.linear import linear
    from perfgate.measure.device import time_device

    x, weights = measure(benchmark, slidesparse, model, layer, scheme, tokens, "cuda")
    own = [metric.value for metric in benchmark.metrics if metric.name == "device_time"]
    if own:
        exact = (x, weights.packed, weights.scale, weights.bias, weights.scheme.exact)
        benchmark.report("speedup_over_int32", time_device(linear, exact, budget_s=0.05).median_s / own[0])


# What the references allocate for a moment differs from process to process.
@pytest.mark.cpu
@pytest.mark.perf(time="15%", memory="100%", budget=0.3)
@pytest.mark.parametrize(("model", "layer", "scheme", "tokens"), CPU)
def test_cpu_linear_layer(benchmark: Any, slidesparse: Any, model: str, layer: str, scheme: str, tokens: int) -> None:
    """The same code with the kernels' references and slid weights that are not compressed."""
    measure(benchmark, slidesparse, model, layer, scheme, tokens, "cpu")


@pytest.mark.sm80
@pytest.mark.vram(70)
@pytest.mark.filterwarnings("ignore:Benchmark fixture was not used")
@pytest.mark.parametrize(("layer", "scheme", "tokens"), GOAL_CASES)
def test_faster_than_dense(
    benchmark: Any, require_cusparselt: Callable[[str], None], slidesparse: Any, layer: str, scheme: str, tokens: int
) -> None:
    """Goal: 2:4 at least 1.6 x dense and 2:8 at least 1.15 x; not gated, both are timed in turns.

    Dense is the fastest of the whole product, parts of 8192 tokens and vLLM's product: a poor guess of cuBLAS does not
    count as a gain. On an H200 vLLM's is the fastest; without it most speed-ups are not plausible there, because
    ``torch._int_mm`` is slow.
    """
    require_cusparselt(scheme)
    from perf_workloads.slidesparse.cases import dense_calls
    from perf_workloads.slidesparse.linear import linear
    from perf_workloads.slidesparse.serving.product import vllm_product
    from perf_workloads.slidesparse.speedup import speedup
    from perfgate.measure.device import time_device

    if vllm_product() is None:
        pytest.skip("the goal is told beside vLLM's dense product, and vLLM is not installed: pip install -e '.[vllm]'")
    weights = slidesparse.weights(MODEL, layer, find(scheme), "cuda")
    x = slidesparse.tokens(tokens, MODEL, layer, "cuda")
    tail = (weights.scale, weights.bias)
    benchmark.profile(linear, x, weights.packed, *tail, weights.scheme)

    turns: dict[str, list[float]] = {}
    for _ in range(TURNS):
        sparse = time_device(linear, (x, weights.packed, *tail, weights.scheme), budget_s=0.05)
        turns.setdefault("sparse", []).append(sparse.median_s)
        for name, call in dense_calls(x, weights).items():
            turns.setdefault(name, []).append(time_device(call, (x, weights.dense, *tail), budget_s=0.05).median_s)

    seconds = {name: median(each) for name, each in turns.items()}
    sparse_s = seconds.pop("sparse")
    fastest = min(seconds, key=seconds.__getitem__)
    benchmark.note("dense", fastest)
    found = speedup(seconds[fastest], sparse_s, weights.scheme)
    times = f"{sparse_s * 1e6:.1f} us, dense " + ", ".join(f"{name} {s * 1e6:.1f} us" for name, s in seconds.items())
    if found.flag:
        pytest.fail(f"{found.flag} ({times})")
    benchmark.report("speedup_over_dense", found.ratio)
    # A goal that is expected to be missed is not to hide one that is missed by more than ever.
    least = min(RATIOS[layer, scheme])
    if found.ratio < 0.9 * least:
        pytest.fail(f"{found.ratio:.3f} x dense, at least {least:.2f} x so far ({times})")
    assert found.ratio >= GOALS[scheme], f"{found.ratio:.3f} x dense ({times})"


def measure(
    benchmark: Any, slidesparse: Any, model: str, layer: str, scheme: str, tokens: int, device: str
) -> tuple[Any, Any]:
    """Measure one layer and check its results; give the tokens and the weights."""
    from perf_workloads.slidesparse.cases import layer_error, measured
    from perf_workloads.slidesparse.linear import linear
    from perf_workloads.slidesparse.products import product_name

    weights = slidesparse.weights(model, layer, find(scheme), device)
    x = slidesparse.tokens(tokens, model, layer, device)
    outputs, inputs = weights.dense.shape
    benchmark.work(
        flops=2 * tokens * inputs * outputs, bytes=weights.nbytes + tokens * (inputs + outputs) * x.element_size()
    )

    y, product = measured(benchmark, linear, x, weights.packed, weights.scale, weights.bias, weights.scheme)

    assert product == product_name(weights.scheme, device)
    assert (y.shape, y.dtype) == ((tokens, outputs), x.dtype)
    benchmark.record("weight_memory", weights.nbytes, unit="B", limit="0")
    error = layer_error(y, x, weights)
    assert error < ERRORS[weights.scheme.codes]
    benchmark.report("error", error)
    return x, weights
