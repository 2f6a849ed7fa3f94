"""Per-token quantisation to INT8 and FP8 over the widths of four served models, 128 to 65536 tokens."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from perf_kernels.model_shapes import TOKENS, WIDTHS
from perf_workloads.slidesparse.row_cases import (
    LARGE_BYTES,
    SMALL_TOKENS,
    assert_quick,
    assert_reaches_the_copy_bandwidth,
    code_type,
    in_turns,
)

SEED = 20
#: Rows whose every code is compared with the reference; of the others the scale and the largest code are.
CHECKED_ROWS = 64
#: Input and both outputs of one width and one number of tokens follow each other, so that the input is drawn once.
CASES = [
    pytest.param(tokens, width, codes, id=f"{codes}-{width}-{tokens}", marks=marks)
    for tokens in TOKENS
    for width in WIDTHS
    for codes, marks in (("int8", pytest.mark.cuda), ("fp8", pytest.mark.fp8))
]
#: Cases that move more than LARGE_BYTES: 3 bytes a column.
LARGE = [case for case in CASES if 3 * case.values[0] * case.values[1] > LARGE_BYTES]
SMALL = [case for case in CASES if case.values[0] == SMALL_TOKENS]


@pytest.fixture(scope="module")
def activations(torch: ModuleType) -> Iterator[Callable[[int, int], Any]]:
    """Give ``activations(tokens, width)``: bf16 on the GPU, kept until another shape is asked for."""
    pytest.importorskip("triton", reason="triton is not installed: pip install -e '.[suite]'")
    from perf_kernels.row_quantization.inputs import random_rows

    @functools.lru_cache(maxsize=1)
    def draw(tokens: int, width: int) -> Any:
        return random_rows(tokens, width, torch.bfloat16, "cuda", SEED)

    yield draw
    draw.cache_clear()


@pytest.mark.sm80
@pytest.mark.perf(time="2% or 0.25us", memory="0", clock="device")
@pytest.mark.parametrize(("tokens", "width", "codes"), CASES)
def test_row_quantization(
    benchmark: Any, torch: ModuleType, activations: Callable[[int, int], Any], tokens: int, width: int, codes: str
) -> None:
    from perf_kernels.row_quantization import bytes_moved, quantize_rows
    from perf_kernels.row_quantization.reference import round_trip_error

    x = activations(tokens, width)
    benchmark.work(bytes=bytes_moved(tokens, width, x.element_size()))

    q, scale = benchmark(quantize_rows, x, code_type(codes))

    rows = assert_quantized(torch, x, q, scale)
    error = round_trip_error(x[rows], q[rows], scale[rows]).item()
    benchmark.record("round_trip_error", error, unit="1", better="lower", limit="10%")


@pytest.mark.sm80
@pytest.mark.parametrize(("tokens", "width", "codes"), LARGE)
def test_reaches_the_copy_bandwidth(
    torch: ModuleType, activations: Callable[[int, int], Any], tokens: int, width: int, codes: str
) -> None:
    """Goal: 95 % of what a copy reaches; not gated by a baseline."""
    from perf_kernels.row_quantization import bytes_moved, quantize_rows

    x = activations(tokens, width)
    assert_reaches_the_copy_bandwidth(
        quantize_rows, (x, code_type(codes)), bytes_moved(tokens, width, x.element_size())
    )


@pytest.mark.sm80
@pytest.mark.parametrize(("tokens", "width", "codes"), SMALL)
def test_few_tokens_are_quick(
    torch: ModuleType, activations: Callable[[int, int], Any], tokens: int, width: int, codes: str
) -> None:
    """Goal: under 6 us at 128 tokens; not gated by a baseline."""
    from perf_kernels.row_quantization import quantize_rows

    x = activations(tokens, width)
    assert_quick(quantize_rows, (x, code_type(codes)))


@pytest.mark.sm80
@pytest.mark.parametrize(("tokens", "width", "codes"), CASES)
def test_never_slower_than_vllm(
    torch: ModuleType, activations: Callable[[int, int], Any], tokens: int, width: int, codes: str
) -> None:
    """Both by the device clock, in turns; not gated: the figures of one process are compared with each other."""
    vllm = pytest.importorskip(
        "vllm._custom_ops", reason="vllm is not installed: pip install -e '.[vllm]'", exc_type=ImportError
    )
    from perf_kernels.row_quantization import quantize_rows

    x = activations(tokens, width)
    if codes == "int8":
        theirs = functools.partial(vllm.scaled_int8_quant, symmetric=True)
    else:
        theirs = functools.partial(vllm.scaled_fp8_quant, use_per_token_if_dynamic=True)
    ours = functools.partial(quantize_rows, dtype=code_type(codes))

    ours_s, theirs_s = in_turns(ours, theirs, x)

    assert ours_s <= theirs_s * 1.02, f"{ours_s * 1e6:.2f} us a call, vLLM {theirs_s * 1e6:.2f} us"


# What plain torch allocates for a moment differs from process to process.
@pytest.mark.cpu
@pytest.mark.perf(memory="100%")
def test_row_quantization_reference(benchmark: Any, torch: ModuleType) -> None:
    """The plain-torch reference on a small shape, on any machine."""
    pytest.importorskip("triton", reason="triton is not installed: pip install -e '.[suite]'")
    from perf_kernels.row_quantization import bytes_moved, quantize_rows_reference
    from perf_kernels.row_quantization.inputs import random_rows

    x = random_rows(64, 2048, torch.bfloat16, "cpu", SEED)
    benchmark.work(bytes=bytes_moved(*x.shape, x.element_size()))

    q, scale = benchmark(quantize_rows_reference, x)

    assert torch.equal(scale, x.float().abs().amax(dim=1) / 127)
    assert ((x.float() - q.float() * scale[:, None]).abs() <= 0.5001 * scale[:, None]).all()


def assert_quantized(torch: ModuleType, x: Any, q: Any, scale: Any) -> Any:
    """Compare with the reference: all codes of some rows, the scale and the largest code of all. Give those rows."""
    from perf_kernels.row_quantization import quantize_rows_reference
    from perf_kernels.rows import LARGEST_CODE

    drawn = torch.randint(len(x), (CHECKED_ROWS - 2,), generator=torch.Generator().manual_seed(SEED)).tolist()
    rows = torch.tensor(sorted({0, len(x) - 1, *drawn}), device=x.device)
    expected_q, expected_scale = quantize_rows_reference(x[rows], q.dtype)
    assert torch.equal(scale[rows], expected_scale)
    assert torch.equal(q[rows].view(torch.uint8), expected_q.view(torch.uint8))

    largest = torch.linalg.vector_norm(x, ord=torch.inf, dim=1).double()
    assert torch.equal(scale, (largest / LARGEST_CODE[q.dtype]).float())
    # 0x7E without the sign is 448 in FP8 e4m3.
    reached = q.abs() == 127 if q.dtype is torch.int8 else q.view(torch.uint8) & 0x7F == 0x7E
    assert reached.any(dim=1).all()
    return rows
