"""Products of quantised tokens and weights, dense and 2:L sparse, for the layers of four served models.

Sums alone: int32 of INT8, fp32 of FP8. A sparse INT8 product equals the dense one bit for bit; sums beyond 2**24, which
no drawn tensors give, have a case of their own. By default gate_up and down of Qwen2.5-7B at all numbers of tokens, the
other layers at two; the rest of the grid with ``--slow-budget``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from perf_workloads.slidesparse import MODELS, SCHEMES, TO_BF16, TOKENS, Layer

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
#: Of sums beyond 2**24: with the default algorithm and, of 8192 tokens, with one that was searched.
LARGE_SCHEMES, LARGE_TOKENS = ("int8-2_4", "int8-2_8"), (64, 8192)
#: Largest cosine of a token and a row of weights: those of 2048 numbers that are drawn apart reach some 0.12.
COSINE = 0.2
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


@pytest.mark.sm80
@pytest.mark.usefixtures("slidesparse")
@pytest.mark.parametrize("tokens", LARGE_TOKENS)
@pytest.mark.parametrize("scheme", LARGE_SCHEMES)
def test_sums_beyond_fp32(require_cusparselt: Callable[[str], None], scheme: str, tokens: int) -> None:
    """Sums of cuSPARSELt are exact up to 2**24 and rounded to fp32 beyond, which changes nothing that a layer gives."""
    require_cusparselt(scheme)
    from perf_kernels.dequantize_bias import dequantize_bias
    from perf_workloads.slidesparse.cases import large_sums_fault
    from perf_workloads.slidesparse.products import Algorithm, multiply_sparse

    q, row_scale, weights, exact = large_sums(scheme, tokens, MODELS[MODEL]["down"], "cuda")

    def scaled_back(sums: Any) -> Any:
        return dequantize_bias(sums, row_scale, weights.scale, dtype=row_scale.dtype)

    algorithms = {"stored": None, "default": Algorithm(), "default, row by row": Algorithm(transposed=True)}
    for name, algorithm in algorithms.items():
        sums = multiply_sparse(q, weights.packed, algorithm)
        fault = large_sums_fault(sums, exact)
        assert not fault, f"{name} algorithm: {fault}"
        assert scaled_back(sums).equal(scaled_back(exact)), f"{name} algorithm: another layer"


@pytest.mark.cpu
@pytest.mark.usefixtures("slidesparse")
@pytest.mark.parametrize("scheme", LARGE_SCHEMES)
def test_cpu_sums_beyond_fp32(scheme: str) -> None:
    """On a CPU all sums are exact."""
    from perf_workloads.slidesparse.products import multiply

    q, _, weights, exact = large_sums(scheme, 64, Layer(MODELS[MODEL]["down"].inputs, 64), "cpu")

    assert multiply(q, weights.packed, weights.scheme).equal(exact)


@pytest.mark.parametrize(
    "device", [pytest.param("cpu", marks=pytest.mark.cpu), pytest.param("cuda", marks=pytest.mark.sm80)]
)
def test_tokens_are_not_weights(slidesparse: Any, device: str) -> None:
    """No token is a row of the weights, or near one: sums of squares are larger than any that a layer has."""
    model, layer = "Llama3.2-1B", "o"
    weights = slidesparse.weights(model, layer, SCHEMES["int8-dense"], device).dense.float()
    x = slidesparse.tokens(512, model, layer, device).float()

    cosines = (x / x.norm(dim=1, keepdim=True)) @ (weights / weights.norm(dim=1, keepdim=True)).t()

    assert cosines.abs().max().item() < COSINE


def large_sums(scheme: str, tokens: int, layer: Layer, device: str) -> tuple[Any, Any, Any, Any]:
    """Give tokens' codes with their scales, weights, and their exact sums on both sides of 2**24, as fp64 says."""
    from perf_workloads.slidesparse.cases import draw_large, sums_error
    from perf_workloads.slidesparse.linear import quantize_activations
    from perf_workloads.slidesparse.products import multiply

    x, weights = draw_large(tokens, layer, SCHEMES[scheme], device)
    plain, row_scale = quantize_activations(x, weights.scheme.dense)
    exact = multiply(plain, weights.dense, weights.scheme.dense)
    assert sums_error(exact, plain, replace(weights, scheme=weights.scheme.dense)) == 0
    return quantize_activations(x, weights.scheme)[0], row_scale, weights, exact


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
