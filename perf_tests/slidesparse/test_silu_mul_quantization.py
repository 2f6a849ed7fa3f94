"""silu(gate) * up, quantised as it is made, for the MLPs of four served models, 128 to 65536 tokens."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from perf_kernels.model_shapes import MODELS, TOKENS
from perf_workloads.slidesparse.row_cases import (
    LARGE_BYTES,
    SMALL_TOKENS,
    assert_quick,
    assert_reaches_the_copy_bandwidth,
    code_type,
    in_turns,
)

SEED = 22
#: Rows that are compared with the reference.
CHECKED_ROWS = 64
WIDTHS = sorted({model.intermediate for model in MODELS})
#: Both outputs of one shape follow each other, so that the input is drawn once.
CASES = [
    pytest.param(tokens, width, codes, id=f"{codes}-{width}-{tokens}", marks=marks)
    for tokens in TOKENS
    for width in WIDTHS
    for codes, marks in (("int8", pytest.mark.cuda), ("fp8", pytest.mark.fp8))
]
#: Five bytes a column of the result.
LARGE = [case for case in CASES if 5 * case.values[0] * case.values[1] > LARGE_BYTES]
SMALL = [case for case in CASES if case.values[0] == SMALL_TOKENS]


@pytest.fixture(scope="module")
def gate_up(torch: ModuleType) -> Iterator[Callable[[int, int], Any]]:
    """Give ``gate_up(tokens, width)``: bf16 on the GPU, kept until another shape is asked for."""
    pytest.importorskip("triton", reason="triton is not installed: pip install -e '.[suite]'")
    from perf_kernels.silu_mul_quantization.inputs import random_gate_up

    @functools.lru_cache(maxsize=1)
    def draw(tokens: int, width: int) -> Any:
        return random_gate_up(tokens, width, torch.bfloat16, "cuda", SEED)

    yield draw
    draw.cache_clear()


@pytest.mark.sm80
@pytest.mark.perf(time="2% or 0.25us", memory="0", clock="device")
@pytest.mark.parametrize(("tokens", "width", "codes"), CASES)
def test_silu_mul_quantization(
    benchmark: Any, torch: ModuleType, gate_up: Callable[[int, int], Any], tokens: int, width: int, codes: str
) -> None:
    from perf_kernels.silu_mul_quantization import bytes_moved, silu_mul_quantize

    x = gate_up(tokens, width)
    benchmark.work(bytes=bytes_moved(tokens, width, x.element_size()))

    q, scale = benchmark(silu_mul_quantize, x, code_type(codes))

    assert_product_quantized(torch, x, q, scale)


@pytest.mark.sm80
@pytest.mark.parametrize(("tokens", "width", "codes"), LARGE)
def test_reaches_the_copy_bandwidth(
    torch: ModuleType, gate_up: Callable[[int, int], Any], tokens: int, width: int, codes: str
) -> None:
    """Goal: 95 % of what a copy reaches; not gated by a baseline."""
    from perf_kernels.silu_mul_quantization import bytes_moved, silu_mul_quantize

    x = gate_up(tokens, width)
    assert_reaches_the_copy_bandwidth(
        silu_mul_quantize, (x, code_type(codes)), bytes_moved(tokens, width, x.element_size())
    )


@pytest.mark.sm80
@pytest.mark.parametrize(("tokens", "width", "codes"), SMALL)
def test_few_tokens_are_quick(
    torch: ModuleType, gate_up: Callable[[int, int], Any], tokens: int, width: int, codes: str
) -> None:
    """Goal: under 6 us at 128 tokens; not gated by a baseline."""
    from perf_kernels.silu_mul_quantization import silu_mul_quantize

    x = gate_up(tokens, width)
    assert_quick(silu_mul_quantize, (x, code_type(codes)))


@pytest.mark.sm80
@pytest.mark.parametrize(("tokens", "width", "codes"), CASES)
def test_never_slower_than_vllm(
    torch: ModuleType, gate_up: Callable[[int, int], Any], tokens: int, width: int, codes: str
) -> None:
    """Against vLLM's activation and quantisation, one after the other.

    Both by the device clock, in turns; not gated: the figures of one process are compared with each other.
    """
    vllm = pytest.importorskip(
        "vllm._custom_ops", reason="vllm is not installed: pip install -e '.[vllm]'", exc_type=ImportError
    )
    from perf_kernels.silu_mul_quantization import silu_mul_quantize

    def theirs(x: Any) -> Any:
        y = torch.empty((x.shape[0], x.shape[1] // 2), dtype=x.dtype, device=x.device)
        torch.ops._C.silu_and_mul(y, x)
        if codes == "int8":
            return vllm.scaled_int8_quant(y, symmetric=True)
        return vllm.scaled_fp8_quant(y, use_per_token_if_dynamic=True)

    ours_s, theirs_s = in_turns(
        functools.partial(silu_mul_quantize, dtype=code_type(codes)), theirs, gate_up(tokens, width)
    )

    assert ours_s <= theirs_s * 1.02, f"{ours_s * 1e6:.2f} us a call, vLLM {theirs_s * 1e6:.2f} us"


# What plain torch allocates for a moment differs from process to process.
@pytest.mark.cpu
@pytest.mark.perf(memory="100%")
def test_silu_mul_quantization_reference(benchmark: Any, torch: ModuleType) -> None:
    """The plain-torch reference on a small shape, on any machine."""
    pytest.importorskip("triton", reason="triton is not installed: pip install -e '.[suite]'")
    from perf_kernels.silu_mul_quantization import bytes_moved, silu_mul_quantize_reference
    from perf_kernels.silu_mul_quantization.inputs import random_gate_up

    x = random_gate_up(64, 2048, torch.bfloat16, "cpu", SEED)
    benchmark.work(bytes=bytes_moved(64, 2048, x.element_size()))

    q, scale = benchmark(silu_mul_quantize_reference, x)

    gate, up = x.float().chunk(2, dim=1)
    y = torch.nn.functional.silu(gate) * up
    # Half a step, and the rounding of the product to bf16.
    assert ((y - q.float() * scale[:, None]).abs() <= 0.5001 * scale[:, None] + y.abs() * 2**-8).all()


def assert_product_quantized(torch: ModuleType, x: Any, q: Any, scale: Any) -> None:
    """Compare some rows with the reference, and the largest code of all rows with what it must be.

    fp32 may round a product to its other neighbour, which moves a scale by one step of bf16 and few codes by one.
    """
    from perf_kernels.silu_mul_quantization import silu_mul_quantize_reference

    drawn = torch.randint(len(x), (CHECKED_ROWS - 2,), generator=torch.Generator().manual_seed(SEED)).tolist()
    rows = torch.tensor(sorted({0, len(x) - 1, *drawn}), device=x.device)
    expected_q, expected_scale = silu_mul_quantize_reference(x[rows], q.dtype)
    assert ((scale[rows] - expected_scale).abs() <= expected_scale * 2**-7).all()
    same = scale[rows] == expected_scale
    assert same.float().mean() >= 0.8
    different = q[rows][same].view(torch.uint8) != expected_q[same].view(torch.uint8)
    assert different.float().mean() <= 1e-3

    # 0x7E without the sign is 448 in FP8 e4m3.
    reached = q.abs() == 127 if q.dtype is torch.int8 else q.view(torch.uint8) & 0x7F == 0x7E
    assert reached.any(dim=1).all()
