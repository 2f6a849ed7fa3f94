"""Softmax attention as an operation, by backend of scaled_dot_product_attention: forced, and checked to be that one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from perf_workloads.attention.cases import CPU_TIME

SEED = 42
#: Relative RMS in bf16, and in fp32.
ERROR = {"cuda": 0.01, "cpu": 1e-5}
#: Of gradients: the backward pass multiplies rounded scores once more.
GRADIENT_ERROR = {"cuda": 0.02, "cpu": 1e-5}
#: Batch, tokens, heads, width of a head: training, small heads, many short sequences.
SHAPES = ((8, 4096, 8, 128), (2, 8192, 16, 64), (32, 512, 16, 64))
SMALL = (1, 128, 4, 64)
BACKENDS = ("math", "efficient", "flash", "cudnn")


def shape_id(shape: tuple[int, ...]) -> str:
    """Write a shape as it stands in the id of a case."""
    return "x".join(map(str, shape))


@pytest.mark.sm80
@pytest.mark.perf(time="3% or 0.5us", memory="1%", clock="device")
@pytest.mark.parametrize("shape", SHAPES, ids=shape_id)
@pytest.mark.parametrize("backend", BACKENDS)
def test_softmax_attention(benchmark: Any, torch: ModuleType, backend: str, shape: tuple[int, int, int, int]) -> None:
    measure(benchmark, torch, backend, shape, "cuda")


@pytest.mark.cpu
@pytest.mark.perf(time=CPU_TIME, budget=0.3)
@pytest.mark.parametrize("backend", ["math", "flash"])
def test_softmax_attention_on_a_cpu(benchmark: Any, torch: ModuleType, backend: str) -> None:
    measure(benchmark, torch, backend, SMALL, "cpu")


def measure(benchmark: Any, torch: ModuleType, backend: str, shape: tuple[int, int, int, int], device: str) -> None:
    """Measure one backend; its first sequence's first heads are compared with the definition in fp32."""
    from perf_kernels.linear_attention import relative_rms
    from perf_workloads.attention.operations import operation, softmax_bytes, softmax_flops
    from perf_workloads.attention.verify import assert_sdpa_backend

    call, inputs = supported(operation(f"softmax-{backend}", shape, device, SEED), backend)
    assert_sdpa_backend(functools.partial(call, *inputs), backend)
    benchmark.work(bytes=softmax_bytes(shape, inputs[0].element_size()), flops=softmax_flops(shape))

    output = benchmark(call, *inputs)

    q, k, v = (x[:1, :2].float() for x in inputs)
    hidden = torch.ones(shape[1], shape[1], dtype=torch.bool, device=device).triu(1)
    expected = ((q @ k.mT) * shape[3] ** -0.5).masked_fill(hidden, -torch.inf).softmax(dim=-1) @ v
    error = relative_rms(output[:1, :2], expected)
    assert error <= ERROR[device]
    benchmark.report("relative_rms", error)


@pytest.mark.sm80
@pytest.mark.perf(time="3% or 0.5us", memory="1%", clock="device")
@pytest.mark.parametrize("backend", BACKENDS)
def test_forward_and_backward(benchmark: Any, torch: ModuleType, backend: str) -> None:
    measure_gradients(benchmark, backend, SHAPES[0], "cuda")


@pytest.mark.cpu
@pytest.mark.perf(time=CPU_TIME, budget=0.3)
@pytest.mark.parametrize("backend", ["math", "flash"])
def test_forward_and_backward_on_a_cpu(benchmark: Any, torch: ModuleType, backend: str) -> None:
    measure_gradients(benchmark, backend, SMALL, "cpu")


def measure_gradients(benchmark: Any, backend: str, shape: tuple[int, int, int, int], device: str) -> None:
    """Measure both passes of one backend; the first sequence's gradients are compared with the math backend's in fp32.

    Which backend runs is read from the operators of another call.
    """
    from perf_kernels.linear_attention import relative_rms
    from perf_workloads.attention.mixers import attend
    from perf_workloads.attention.operations import operation, softmax_flops
    from perf_workloads.attention.verify import assert_sdpa_backend

    call, inputs = supported(operation(f"softmax-{backend}", shape, device, SEED), backend)
    assert_sdpa_backend(functools.partial(gradients, call, *inputs), backend)
    # Forward is two products, backward five.
    benchmark.work(flops=softmax_flops(shape) * 7 / 2)

    found = benchmark(gradients, call, *inputs)

    expected = gradients(functools.partial(attend, backend="math"), *(x[:1].float() for x in inputs))
    for name, gradient, reference in zip("qkv", found, expected, strict=True):
        error = relative_rms(gradient[:1], reference)
        assert error <= GRADIENT_ERROR[device], name
        benchmark.report(f"{name}_gradient_rms", error)


def supported(built: tuple[Callable[..., Any], tuple[Any, ...]], backend: str) -> Any:
    """Skip where torch has no kernel of this backend for these inputs, with what it says; nothing stands in for it."""
    call, inputs = built
    try:
        call(*(x[:1] for x in inputs))
    except RuntimeError as error:
        if "No available kernel" not in str(error):
            raise
        pytest.skip(f"scaled_dot_product_attention has no {backend} kernel here: {error}")
    return built


def gradients(call: Callable[..., Any], *inputs: Any) -> Any:
    """Give the gradients of the inputs for the sum of the outputs; leaves are made here, so that inputs are rotated."""
    import torch

    leaves = [x.detach().requires_grad_() for x in inputs]
    output = call(*leaves)
    return torch.autograd.grad(output, leaves, torch.ones_like(output))
