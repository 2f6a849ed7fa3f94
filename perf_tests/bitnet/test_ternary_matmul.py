"""Ternary weights packed four to a byte times int8 activations, on the layers of bitnet-b1.58-2B-4T, 1 to 64 tokens."""

from __future__ import annotations

from statistics import median
from types import ModuleType
from typing import Any

import pytest

SEED = 22
#: Inputs and outputs: the MLP's, and the attention's query and key.
LAYERS = {"up": (2560, 6912), "down": (6912, 2560), "query": (2560, 2560), "key": (2560, 640)}
TOKENS = (1, 2, 4, 8, 16, 32, 64)
#: Goals that are known to be missed: these tests are run, and expected to fail.
UP_MISSED = pytest.mark.xfail(
    raises=AssertionError, strict=False, reason="missed: 2.84 x of 3 x on an H200, 2026-11-21"
)
MANY_MISSED = pytest.mark.xfail(
    raises=AssertionError, strict=False, reason="missed: 15.9 us, bf16 15.0 us on an H200, 2026-11-21"
)
CASES = [pytest.param(layer, tokens, id=f"{layer}-{tokens}") for layer in LAYERS for tokens in TOKENS]


@pytest.mark.sm80
@pytest.mark.perf(time="2% or 0.25us", memory="0", clock="device")
@pytest.mark.parametrize(("layer", "tokens"), CASES)
def test_ternary_matmul(benchmark: Any, torch: ModuleType, layer: str, tokens: int) -> None:
    """One call from bf16 activations to bf16 outputs, quantisation of the activations included."""
    weights, x, kernels = prepare(torch, layer, tokens)
    inputs, outputs = LAYERS[layer]
    benchmark.work(
        bytes=kernels.bytes_moved(tokens, outputs, inputs, x.element_size()),
        flops=kernels.flops(tokens, outputs, inputs),
    )

    y = benchmark(kernels.ternary_matmul, x, weights.packed, weights.gamma)

    assert torch.equal(y, kernels.ternary_matmul_reference(x, weights.codes, weights.gamma))


@pytest.mark.sm80
@pytest.mark.perf(time="2% or 0.25us", memory="0", clock="device")
@pytest.mark.parametrize(("layer", "tokens"), CASES)
def test_bf16_linear(benchmark: Any, torch: ModuleType, layer: str, tokens: int) -> None:
    """What it replaces: torch's linear layer with bf16 weights of the same shape."""
    weights, x, kernels = prepare(torch, layer, tokens)
    inputs, outputs = LAYERS[layer]
    benchmark.work(
        bytes=2 * (inputs * outputs + tokens * (inputs + outputs)), flops=kernels.flops(tokens, outputs, inputs)
    )

    y = benchmark(torch.nn.functional.linear, x, weights.weight)

    expected = x.double() @ weights.weight.double().t()
    assert ((y.double() - expected).norm() / expected.norm()).item() < 4e-3


@pytest.mark.sm80
@pytest.mark.parametrize("layer", [pytest.param("up", marks=UP_MISSED), "down"])
def test_one_token_at_least_3_times_as_fast_as_bf16(torch: ModuleType, layer: str) -> None:
    """The goal: both by the device clock with a cold L2, in turns; the figures of one process are compared."""
    from perfgate.measure.device import time_device

    weights, x, kernels = prepare(torch, layer, 1)
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(5):
        timing = time_device(kernels.ternary_matmul, (x, weights.packed, weights.gamma), budget_s=0.05)
        ours.append(timing.median_s)
        theirs.append(time_device(torch.nn.functional.linear, (x, weights.weight), budget_s=0.05).median_s)
    if not torch.equal(timing.result, kernels.ternary_matmul_reference(x, weights.codes, weights.gamma)):
        pytest.fail("the timed result is wrong")

    ours_s, theirs_s = median(ours), median(theirs)
    told = f"{ours_s * 1e6:.2f} us, bf16 {theirs_s * 1e6:.2f} us: {theirs_s / ours_s:.2f} times as fast"
    if theirs_s < 2.5 * ours_s:
        # A goal that is expected to be missed is not to hide one that is missed by more than ever.
        pytest.fail(told)
    assert theirs_s >= 3 * ours_s, told


@pytest.mark.sm80
@pytest.mark.parametrize("tokens", [*TOKENS[:-1], pytest.param(TOKENS[-1], marks=MANY_MISSED)])
def test_never_slower_than_bf16(torch: ModuleType, tokens: int) -> None:
    """On the widest layer, at each number of tokens that the kernel is made for."""
    from perfgate.measure.device import time_device

    weights, x, kernels = prepare(torch, "down", tokens)
    rounds = [
        (
            time_device(kernels.ternary_matmul, (x, weights.packed, weights.gamma), budget_s=0.05).median_s,
            time_device(torch.nn.functional.linear, (x, weights.weight), budget_s=0.05).median_s,
        )
        for _ in range(3)
    ]
    ours_s, theirs_s = (median(times) for times in zip(*rounds, strict=True))
    told = f"{ours_s * 1e6:.2f} us a call, bf16 {theirs_s * 1e6:.2f} us"
    if ours_s > theirs_s * 1.2:
        pytest.fail(told)
    assert ours_s <= theirs_s * 1.02, told


@pytest.mark.cpu
@pytest.mark.perf(time="20%", budget=0.3)
def test_ternary_matmul_reference(benchmark: Any, torch: ModuleType) -> None:
    """The plain-torch reference on a small shape, on any machine."""
    pytest.importorskip("triton", reason="triton is not installed: pip install -e '.[suite]'")
    from perf_kernels.ternary_matmul import bytes_moved, flops, ternary_matmul_reference
    from perf_kernels.ternary_matmul.inputs import random_layer, random_tokens

    weights = random_layer(512, 640, "cpu", SEED)
    x = random_tokens(4, 512, torch.float32, "cpu", SEED)
    benchmark.work(bytes=bytes_moved(4, 640, 512, x.element_size()), flops=flops(4, 640, 512))

    y = benchmark(ternary_matmul_reference, x, weights.codes, weights.gamma)

    exact = x.double() @ (weights.codes.double() * weights.gamma.double()).t()
    assert ((y.double() - exact).norm() / exact.norm()).item() < 1e-2


def prepare(torch: ModuleType, layer: str, tokens: int) -> tuple[Any, Any, ModuleType]:
    """Give the layer's weights and activations on the GPU, and the kernel's module."""
    pytest.importorskip("triton", reason="triton is not installed: pip install -e '.[suite]'")
    from perf_kernels import ternary_matmul
    from perf_kernels.ternary_matmul.inputs import random_layer, random_tokens

    inputs, outputs = LAYERS[layer]
    weights = random_layer(inputs, outputs, "cuda", SEED)
    return weights, random_tokens(tokens, inputs, torch.bfloat16, "cuda", SEED), ternary_matmul
