"""Products of quantised tokens and weights, dense and 2:L sparse, for the layers of four served models.

Sums alone: int32 of INT8, fp32 of FP8. A sparse INT8 product equals the dense one bit for bit. By default gate_up and
down of Qwen2.5-7B at all numbers of tokens, the other layers at two; the rest of the grid with ``--slow-budget``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from perf_workloads.slidesparse import MODELS, SCHEMES, TO_BF16, TOKENS

MODEL, LAYERS = "Qwen2.5-7B", ("gate_up", "down")
#: What runs by default: numbers of tokens of those layers in FP8, and of all others in some schemes.
FP8_TOKENS = {64, 512, 2048, 8192, 65536}
OTHER_TOKENS, OTHER_SCHEMES = {64, 8192}, {"int8-dense", "int8-2_4", "int8-2_8"}


def runs_always(model: str, layer: str, scheme: str, tokens: int) -> bool:
    """Tell whether a case of the grid needs no ``--slow-budget``."""
    if model == MODEL and layer in LAYERS:
        return scheme.startswith("int8") or tokens in FP8_TOKENS
    return scheme in OTHER_SCHEMES and tokens in OTHER_TOKENS


def case(model: str, layer: str, scheme: str, tokens: int) -> Any:
    """Give one case of the grid."""
    marks = [pytest.mark.fp8] if scheme.startswith("fp8") else []
    if not runs_always(model, layer, scheme, tokens):
        marks.append(pytest.mark.slow)
    if tokens * MODELS[model][layer].outputs > 2**30:
        marks.append(pytest.mark.vram(70))
    return pytest.param(model, layer, scheme, tokens, id=f"{scheme}-{model}-{layer}-{tokens}", marks=marks)


#: Weights are drawn once for the cases that follow each other.
GRID = [
    case(model, layer, scheme, tokens)
    for model in MODELS
    for layer in MODELS[model]
    for scheme in SCHEMES
    for tokens in TOKENS
]
#: Of products that write scaled bf16: all layers of that model, where the exact form of the same is timed as well.
SCALED_SCHEMES, SCALED_TOKENS = ("int8-2_4-bf16", "int8-2_8-bf16"), (64, 8192, 16384)
SCALED = [
    pytest.param(MODEL, layer, scheme, tokens, id=f"{scheme}-{MODEL}-{layer}-{tokens}")
    for layer in MODELS[MODEL]
    for scheme in SCALED_SCHEMES
    for tokens in SCALED_TOKENS
]
CPU = [
    pytest.param("Llama3.2-1B", "o", scheme, 64, id=f"{scheme}-Llama3.2-1B-o-64")
    for scheme in ("int8-dense", "int8-2_4", "int8-2_8")
]


@pytest.mark.sm80
@pytest.mark.perf(time="2% or 0.25us", memory="0", clock="device", budget=0.05)
@pytest.mark.parametrize(("model", "layer", "scheme", "tokens"), GRID)
def test_gemm(
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
    q, weights = measure(benchmark, slidesparse, model, layer, scheme, tokens, "cuda")
    if weights.scheme.group is not None:
        from perf_workloads.slidesparse.products import multiply

        dense = weights.scheme.dense
        arguments = (q, weights.dense, dense)
        report_speedup(weights.scheme, dense_seconds((model, layer, dense, tokens), multiply, arguments))


@pytest.mark.sm80
@pytest.mark.perf(time="2% or 0.25us", memory="0", clock="device", budget=0.05)
@pytest.mark.parametrize(("model", "layer", "scheme", "tokens"), SCALED)
def test_scaled_gemm(
    benchmark: Any,
    require_cusparselt: Callable[[str], None],
    slidesparse: Any,
    model: str,
    layer: str,
    scheme: str,
    tokens: int,
) -> None:
    """The form of a sparse INT8 product that applies the weights' scales and writes bf16."""
    require_cusparselt(scheme)
    from perf_workloads.slidesparse.cases import SCALED_ERROR, measured, scaled_error
    from perf_workloads.slidesparse.linear import quantize_activations
    from perf_workloads.slidesparse.products import multiply_scaled, product_name

    weights = slidesparse.weights(model, layer, TO_BF16[scheme], "cuda")
    x = slidesparse.tokens(tokens, model, layer, "cuda")
    q, _ = quantize_activations(x, weights.scheme)
    outputs, inputs = weights.dense.shape
    benchmark.work(flops=2 * tokens * inputs * outputs, bytes=weights.nbytes + q.nbytes + 2 * tokens * outputs)

    product, name = measured(benchmark, multiply_scaled, q, weights.packed, weights.scale, weights.scheme)

    assert name == product_name(weights.scheme, "cuda")
    benchmark.record("weight_memory", weights.nbytes, unit="B", limit="0")
    error = scaled_error(product, quantize_activations(x, weights.scheme.dense)[0], weights)
    benchmark.report("rounding_error", error)
    assert error <= SCALED_ERROR


@pytest.mark.cpu
@pytest.mark.perf(time="15%", budget=0.3)
@pytest.mark.parametrize(("model", "layer", "scheme", "tokens"), CPU)
def test_cpu_gemm(benchmark: Any, slidesparse: Any, model: str, layer: str, scheme: str, tokens: int) -> None:
    """The same code with slid weights that are not compressed: exact, and no faster than dense."""
    measure(benchmark, slidesparse, model, layer, scheme, tokens, "cpu")


@pytest.mark.sm80
@pytest.mark.parametrize("scheme", ["int8-2_4", "int8-2_8", pytest.param("fp8-2_4", marks=pytest.mark.fp8)])
def test_sparse_hardware_runs(require_cusparselt: Callable[[str], None], slidesparse: Any, scheme: str) -> None:
    """What is noted is what ran: one product of cuSPARSELt, and no dense one."""
    require_cusparselt(scheme)
    from perf_workloads.slidesparse.linear import quantize_activations
    from perf_workloads.slidesparse.products import multiply
    from perfgate.profile import capture

    weights = slidesparse.weights(MODEL, "o", SCHEMES[scheme], "cuda")
    q, _ = quantize_activations(slidesparse.tokens(512, MODEL, "o", "cuda"), weights.scheme)

    profile = capture(lambda: multiply(q, weights.packed, weights.scheme))

    assert profile.calls("aten::_cslt_sparse_mm") == 1
    assert profile.calls("aten::_int_mm") == profile.calls("aten::_scaled_mm") == profile.calls("aten::mm") == 0


def measure(
    benchmark: Any, slidesparse: Any, model: str, layer: str, scheme: str, tokens: int, device: str
) -> tuple[Any, Any]:
    """Measure one product and check its sums; give the tokens' codes, not slid, and the weights."""
    from perf_workloads.slidesparse.cases import FP8_ERROR, measured, sums_error
    from perf_workloads.slidesparse.linear import quantize_activations
    from perf_workloads.slidesparse.products import multiply, product_name

    weights = slidesparse.weights(model, layer, SCHEMES[scheme], device)
    x = slidesparse.tokens(tokens, model, layer, device)
    q, _ = quantize_activations(x, weights.scheme)
    outputs, inputs = weights.dense.shape
    # What the layer needs: a sparse scheme is as fast as the dense work that it replaces.
    benchmark.work(flops=2 * tokens * inputs * outputs, bytes=weights.packed.nbytes + q.nbytes + 4 * tokens * outputs)

    sums, product = measured(benchmark, multiply, q, weights.packed, weights.scheme)

    assert product == product_name(weights.scheme, device)
    benchmark.record("weight_memory", weights.nbytes, unit="B", limit="0")
    del q
    plain, _ = quantize_activations(x, weights.scheme.dense)
    error = sums_error(sums, plain, weights)
    assert error == 0 if weights.scheme.codes == "int8" else error < FP8_ERROR
    if weights.scheme.codes == "fp8":
        benchmark.report("sums_error", error)
    return plain, weights
