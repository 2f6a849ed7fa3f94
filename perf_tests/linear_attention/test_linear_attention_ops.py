"""Linear attention as an operation: our chunked kernel and fla's, forward and backward, at four shapes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from statistics import median
from types import ModuleType
from typing import Any

import pytest

from perf_workloads.attention.cases import CPU_TIME

SEED = 40
#: Outputs are checked for these sequences of a batch: the reference holds the states of all chunks.
CHECKED = (0, -1)
#: Relative RMS that fla allows its own kernels.
OUTPUT_ERROR, GRADIENT_ERROR = 0.005, 0.008
#: fla sums the keys up in bf16 for the normalised form.
NORMALIZED_ERROR = 0.02
#: Batch, tokens, heads, width of a head: training, a long prompt, small heads, many short sequences.
SHAPES = ((8, 4096, 8, 128), (1, 32768, 8, 128), (2, 8192, 16, 64), (32, 512, 16, 64))
KERNELS = ("chunk", "fla_chunk", "fla_fused_chunk", "fla_fused_recurrent")


def shape_id(shape: tuple[int, ...]) -> str:
    """Write a shape as it stands in the id of a case."""
    return "x".join(map(str, shape))


@pytest.fixture(scope="module")
def heads(torch: ModuleType) -> Iterator[Callable[..., Any]]:
    """Give ``heads(shape, positive)``: q, k, v in bf16 on the GPU, kept until others are asked for."""
    pytest.importorskip("triton", reason="triton is not installed: pip install -e '.[suite]'")
    from perf_kernels.linear_attention.inputs import random_heads

    @functools.lru_cache(maxsize=1)
    def draw(shape: tuple[int, int, int, int], positive: bool = False) -> Any:
        return random_heads(*shape, dtype=torch.bfloat16, device="cuda", seed=SEED, positive=positive)

    yield draw
    draw.cache_clear()


@pytest.mark.cuda
@pytest.mark.sm80
@pytest.mark.perf(time="3% or 0.5us", clock="device")
@pytest.mark.parametrize("normalize", [False, True], ids=["plain", "normalized"])
@pytest.mark.parametrize("shape", SHAPES, ids=shape_id)
@pytest.mark.parametrize("implementation", KERNELS)
def test_linear_attention(
    benchmark: Any,
    torch: ModuleType,
    heads: Callable[..., Any],
    implementation: str,
    shape: tuple[int, int, int, int],
    normalize: bool,
) -> None:
    from perf_kernels.linear_attention import bytes_moved, chunked_reference, flops, linear_attention, relative_rms

    require(implementation)
    q, k, v = heads(shape, normalize)
    benchmark.work(bytes=bytes_moved(*shape, shape[3], 2), flops=flops(*shape, shape[3]))

    result = benchmark(linear_attention, q, k, v, implementation=implementation, normalize=normalize)

    report(benchmark, implementation, result.implementation)
    for i in CHECKED:
        expected, _ = chunked_reference(*(x[i : i + 1 or None] for x in (q, k, v)), normalize=normalize)
        error = relative_rms(result.output[i : i + 1 or None], expected)
        theirs = normalize and implementation != "chunk"
        assert error <= (NORMALIZED_ERROR if theirs else OUTPUT_ERROR)
    benchmark.record("relative_rms", error, unit="1", better="lower", limit="10%")


@pytest.mark.cuda
@pytest.mark.sm80
@pytest.mark.perf(time="3% or 0.5us", clock="device")
@pytest.mark.parametrize("shape", SHAPES[:2], ids=shape_id)
@pytest.mark.parametrize("implementation", KERNELS[:3])
def test_forward_and_backward(
    benchmark: Any,
    torch: ModuleType,
    heads: Callable[..., Any],
    implementation: str,
    shape: tuple[int, int, int, int],
) -> None:
    from perf_kernels.linear_attention import bytes_moved, chunked_reference, flops, linear_attention, relative_rms

    require(implementation)
    q, k, v = heads(shape)
    weight = torch.randn_like(v)
    # Forward, and a pass for each gradient.
    benchmark.work(bytes=4 * bytes_moved(*shape, shape[3], 2), flops=4 * flops(*shape, shape[3]))
    attend = functools.partial(linear_attention, implementation=implementation)

    found = benchmark(gradients, attend, q, k, v, weight)

    # Gradients do not tell who computed them.
    report(benchmark, implementation, attend(q, k, v).implementation)
    for i in CHECKED:
        parts = [x[i : i + 1 or None] for x in (q, k, v, weight)]
        for gradient, expected in zip(found, gradients(reference(chunked_reference), *parts), strict=True):
            assert relative_rms(gradient[i : i + 1 or None], expected) <= GRADIENT_ERROR


@pytest.mark.cuda
@pytest.mark.sm80
@pytest.mark.perf(time="3% or 0.5us", clock="device")
@pytest.mark.parametrize("implementation", ["chunk", "fla_fused_recurrent"])
def test_one_token(benchmark: Any, torch: ModuleType, heads: Callable[..., Any], implementation: str) -> None:
    """A decoding step of 128 sequences: the state is read and written."""
    from perf_kernels.linear_attention import bytes_moved, linear_attention, recurrent_reference, relative_rms
    from perf_kernels.linear_attention.inputs import random_state

    require(implementation)
    shape = (128, 1, 8, 128)
    q, k, v = heads(shape)
    state = random_state(128, 8, 128, 128, "cuda", SEED)
    benchmark.work(bytes=bytes_moved(*shape, shape[3], 2) + 2 * state.numel() * 4)

    result = benchmark(
        linear_attention, q, k, v, implementation=implementation, initial_state=state, output_final_state=True
    )

    report(benchmark, implementation, result.implementation)
    expected, expected_state = recurrent_reference(q, k, v, initial_state=state, output_final_state=True)
    assert relative_rms(result.output, expected) <= OUTPUT_ERROR
    assert relative_rms(result.final_state, expected_state) <= OUTPUT_ERROR


@pytest.mark.cuda
@pytest.mark.sm80
@pytest.mark.parametrize("normalize", [False, True], ids=["plain", "normalized"])
@pytest.mark.parametrize("shape", SHAPES, ids=shape_id)
def test_within_a_fifth_of_fla(
    torch: ModuleType, heads: Callable[..., Any], shape: tuple[int, int, int, int], normalize: bool
) -> None:
    """Both by the device clock, in turns; not gated: the figures of one process are compared with each other."""
    from perf_kernels.linear_attention import linear_attention

    require("fla_chunk")
    ours, theirs = (
        functools.partial(linear_attention, implementation=name, normalize=normalize) for name in ("chunk", "fla_chunk")
    )

    ours_s, theirs_s = in_turns(ours, theirs, heads(shape, normalize))

    assert ours_s <= theirs_s * 1.2, f"{ours_s * 1e6:.1f} us a call, fla {theirs_s * 1e6:.1f} us"


@pytest.mark.cpu
@pytest.mark.perf(time=CPU_TIME, budget=0.3)
@pytest.mark.parametrize("implementation", ["naive_chunk", "naive_recurrent"])
def test_linear_attention_on_a_cpu(benchmark: Any, torch: ModuleType, implementation: str) -> None:
    """The plain-torch references on a small shape, on any machine."""
    pytest.importorskip("triton", reason="triton is not installed: pip install -e '.[suite]'")
    from perf_kernels.linear_attention import bytes_moved, flops, linear_attention, recurrent_reference, relative_rms
    from perf_kernels.linear_attention.inputs import random_heads

    shape = (1, 128, 4, 64)
    q, k, v = random_heads(*shape, dtype=torch.float32, seed=SEED)
    benchmark.work(bytes=bytes_moved(*shape, shape[3], 4), flops=flops(*shape, shape[3]))

    result = benchmark(linear_attention, q, k, v, implementation=implementation)

    report(benchmark, implementation, result.implementation)
    expected, _ = recurrent_reference(q, k, v, dtype=torch.float64)
    assert relative_rms(result.output, expected) <= 1e-5


def require(implementation: str) -> None:
    """Skip the case if it is about fla and fla is not installed."""
    if implementation.startswith("fla_"):
        pytest.importorskip("fla", reason="fla is not installed: pip install fla-core")


def report(benchmark: Any, asked: str, ran: str) -> None:
    """Put which implementation ran, and which fla, into the result."""
    from perf_kernels.linear_attention import installed_fla

    assert ran == asked
    # The launcher of our kernel notes itself.
    if ran != "chunk":
        benchmark.note("linear_attention", ran)
    if ran.startswith("fla_"):
        benchmark.note("fla-core", str(installed_fla.version()))


def reference(attend: Callable[..., Any]) -> Callable[..., Any]:
    """Give a reference that returns a result with an ``output``, as implementations do."""
    from perf_kernels.linear_attention import Attended

    return lambda *inputs: Attended(*attend(*inputs), implementation="reference")


def gradients(attend: Callable[..., Any], q: Any, k: Any, v: Any, weight: Any) -> Any:
    """Attend, and give the gradients of q, k and v for the outputs' ``weight``.

    Leaves are made here, so that the arguments need no gradients and can be rotated.
    """
    import torch

    leaves = [x.detach().requires_grad_() for x in (q, k, v)]
    output = attend(*leaves).output
    return torch.autograd.grad(output, leaves, weight.to(output.dtype))


def in_turns(ours: Callable[..., Any], theirs: Callable[..., Any], inputs: Any) -> tuple[float, float]:
    """Give the device time of both, in seconds: medians of three rounds with a cold L2, taken in turns."""
    from perfgate.measure.device import time_device

    rounds = [[time_device(call, inputs, budget_s=0.05).median_s for call in (ours, theirs)] for _ in range(3)]
    return median(first for first, _ in rounds), median(second for _, second in rounds)
