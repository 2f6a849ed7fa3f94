"""The gated delta rule as an operation: fla's chunked and recurrent kernels, and the plain-torch references."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from perf_workloads.attention.cases import CPU_TIME

SEED = 41
CHECKED = (0, -1)
#: Relative RMS that fla allows its own kernels: outputs, gradients, gradients of the gates.
OUTPUT_ERROR, GRADIENT_ERROR, GATE_ERROR = 0.005, 0.008, 0.02
#: Batch, tokens, heads, width of a head: training, a long prompt, small heads.
SHAPES = ((8, 4096, 8, 128), (1, 32768, 8, 128), (2, 8192, 16, 64))


def shape_id(shape: tuple[int, ...]) -> str:
    """Write a shape as it stands in the id of a case."""
    return "x".join(map(str, shape))


@pytest.fixture(scope="module")
def heads(torch: ModuleType) -> Iterator[Callable[[tuple[int, int, int, int]], Any]]:
    """Give ``heads(shape)``: q, k, v, g, beta on the GPU, kept until others are asked for."""
    pytest.importorskip("triton", reason="triton is not installed: pip install -e '.[suite]'")
    from perf_kernels.gated_delta_rule.inputs import random_gated_heads

    @functools.lru_cache(maxsize=1)
    def draw(shape: tuple[int, int, int, int]) -> Any:
        return random_gated_heads(*shape, dtype=torch.bfloat16, device="cuda", seed=SEED)

    yield draw
    draw.cache_clear()


@pytest.mark.cuda
@pytest.mark.sm80
@pytest.mark.perf(time="3% or 0.5us", clock="device")
@pytest.mark.parametrize("shape", SHAPES, ids=shape_id)
@pytest.mark.parametrize("implementation", ["fla_chunk", "fla_fused_recurrent"])
def test_gated_delta_rule(
    benchmark: Any,
    torch: ModuleType,
    heads: Callable[[tuple[int, int, int, int]], Any],
    implementation: str,
    shape: tuple[int, int, int, int],
) -> None:
    from perf_kernels.gated_delta_rule import bytes_moved, chunked_reference, flops, gated_delta_rule
    from perf_kernels.linear_attention import relative_rms

    require_fla()
    batch, tokens, count, width = shape
    inputs = heads(shape)
    benchmark.work(
        bytes=bytes_moved(batch, tokens, count, count, width, width, 2), flops=flops(batch, tokens, count, width, width)
    )

    result = benchmark(gated_delta_rule, *inputs, implementation=implementation, normalize_qk=True)

    report(benchmark, implementation, result.implementation)
    for i in CHECKED:
        expected, _ = chunked_reference(*(x[i : i + 1 or None] for x in inputs), normalize_qk=True)
        error = relative_rms(result.output[i : i + 1 or None], expected)
        assert error <= OUTPUT_ERROR
    benchmark.record("relative_rms", error, unit="1", better="lower", limit="10%")


@pytest.mark.cuda
@pytest.mark.sm80
@pytest.mark.perf(time="3% or 0.5us", clock="device")
@pytest.mark.parametrize("shape", SHAPES[:1], ids=shape_id)
def test_forward_and_backward(
    benchmark: Any,
    torch: ModuleType,
    heads: Callable[[tuple[int, int, int, int]], Any],
    shape: tuple[int, int, int, int],
) -> None:
    """Skipped where fla refuses gradients: with Triton 3.4 to 3.7.0 on Hopper (its issue 640)."""
    from perf_kernels.gated_delta_rule import chunked_reference, gated_delta_rule
    from perf_kernels.linear_attention import relative_rms

    require_fla()
    inputs = heads(shape)
    weight = torch.randn_like(inputs[2])
    try:
        gradients(fla_chunk, *(x[:1, :64] for x in (*inputs, weight)))
    except RuntimeError as error:
        if "#640" not in str(error):
            raise
        pytest.skip(f"fla refuses gradients: {error}")

    found = benchmark(gradients, fla_chunk, *inputs, weight)

    # Gradients do not tell who computed them.
    ran = gated_delta_rule(*inputs, implementation="fla_chunk", normalize_qk=True).implementation
    report(benchmark, "fla_chunk", ran)
    reference = functools.partial(chunked_reference, normalize_qk=True)
    for i in CHECKED:
        expected = gradients(lambda *leaves: reference(*leaves)[0], *(x[i : i + 1 or None] for x in (*inputs, weight)))
        for name, one, other in zip(("q", "k", "v", "g", "beta"), found, expected, strict=True):
            allowed = GATE_ERROR if name in ("g", "beta") else GRADIENT_ERROR
            assert relative_rms(one[i : i + 1 or None], other) <= allowed, name


@pytest.mark.cuda
@pytest.mark.sm80
@pytest.mark.perf(time="3% or 0.5us", clock="device")
def test_one_token(benchmark: Any, torch: ModuleType, heads: Callable[[tuple[int, int, int, int]], Any]) -> None:
    """A decoding step of 128 sequences: the state is read and written."""
    from perf_kernels.gated_delta_rule import bytes_moved, gated_delta_rule, recurrent_reference
    from perf_kernels.linear_attention import relative_rms
    from perf_kernels.linear_attention.inputs import random_state

    require_fla()
    inputs = heads((128, 1, 8, 128))
    state = random_state(128, 8, 128, 128, "cuda", SEED)
    benchmark.work(bytes=bytes_moved(128, 1, 8, 8, 128, 128, 2) + 2 * state.numel() * 4)
    options = {"initial_state": state, "output_final_state": True, "normalize_qk": True}

    result = benchmark(gated_delta_rule, *inputs, implementation="fla_fused_recurrent", **options)

    report(benchmark, "fla_fused_recurrent", result.implementation)
    expected, expected_state = recurrent_reference(*inputs, **options)
    assert relative_rms(result.output, expected) <= OUTPUT_ERROR
    assert relative_rms(result.final_state, expected_state) <= OUTPUT_ERROR


@pytest.mark.cpu
@pytest.mark.perf(time=CPU_TIME, budget=0.3)
@pytest.mark.parametrize("implementation", ["naive_chunk", "naive_recurrent"])
def test_gated_delta_rule_on_a_cpu(benchmark: Any, torch: ModuleType, implementation: str) -> None:
    """The plain-torch references on a small shape, on any machine."""
    pytest.importorskip("triton", reason="triton is not installed: pip install -e '.[suite]'")
    from perf_kernels.gated_delta_rule import bytes_moved, flops, gated_delta_rule, recurrent_reference
    from perf_kernels.gated_delta_rule.inputs import random_gated_heads
    from perf_kernels.linear_attention import relative_rms

    inputs = random_gated_heads(1, 128, 4, 64, dtype=torch.float32, seed=SEED)
    benchmark.work(bytes=bytes_moved(1, 128, 4, 4, 64, 64, 4), flops=flops(1, 128, 4, 64, 64))

    result = benchmark(gated_delta_rule, *inputs, implementation=implementation, normalize_qk=True)

    report(benchmark, implementation, result.implementation)
    expected, _ = recurrent_reference(*inputs, normalize_qk=True, dtype=torch.float64)
    assert relative_rms(result.output, expected) <= 1e-5


def require_fla() -> None:
    """Skip the case if fla is not installed."""
    pytest.importorskip("fla", reason="fla is not installed: pip install fla-core")


def report(benchmark: Any, asked: str, ran: str) -> None:
    """Put which implementation ran, and which fla, into the result."""
    from perf_kernels.linear_attention import installed_fla

    assert ran == asked
    benchmark.note("gated_delta_rule", ran)
    if ran.startswith("fla_"):
        benchmark.note("fla-core", str(installed_fla.version()))


def fla_chunk(*inputs: Any) -> Any:
    """Give fla's chunked outputs, with q and k divided by their length."""
    from perf_kernels.gated_delta_rule import gated_delta_rule

    return gated_delta_rule(*inputs, implementation="fla_chunk", normalize_qk=True).output


def gradients(attend: Callable[..., Any], *inputs: Any) -> Any:
    """Attend to all inputs but the last, and give their gradients for it as the outputs' weight.

    Leaves are made here, so that the arguments need no gradients and can be rotated.
    """
    import torch

    *inputs, weight = inputs
    leaves = [x.detach().requires_grad_() for x in inputs]
    output = attend(*leaves)
    return torch.autograd.grad(output, leaves, weight.to(output.dtype))
