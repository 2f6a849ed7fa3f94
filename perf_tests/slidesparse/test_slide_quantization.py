"""Per-token quantisation and slide to INT8 and FP8 over the widths of four served models, 128 to 65536 tokens.

2:8 is timed over the whole grid, the other ratios at two widths.
"""

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

SEED = 21
#: Rows whose every code is compared with the reference; of the others the scale and the largest code are.
CHECKED_ROWS = 64
TYPES = (("int8", pytest.mark.cuda), ("fp8", pytest.mark.fp8))
#: Cases of one width and one number of tokens follow each other, so that the input is drawn once.
CASES = [
    pytest.param(tokens, width, group, codes, id=f"{codes}-2_{group}-{width}-{tokens}", marks=marks)
    for tokens in TOKENS
    for width in WIDTHS
    for group in (4, 6, 8, 10, 12)
    if group == 8 or (width in (3584, 18944) and tokens in (128, 8192, 65536))
    for codes, marks in TYPES
]
#: Cases that move more than LARGE_BYTES: at least 3 bytes a column.
LARGE = [case for case in CASES if 3 * case.values[0] * case.values[1] > LARGE_BYTES]
SMALL = [case for case in CASES if case.values[0] == SMALL_TOKENS]


@pytest.fixture(scope="module")
def activations(torch: ModuleType) -> Iterator[Callable[[int, int], Any]]:
    """Give ``activations(tokens, width)``: bf16 on the GPU, kept until another shape is asked for."""
    pytest.importorskip("triton", reason="triton is not installed: pip install -e '.[suite]'")
    from perf_kernels.slide_quantization.inputs import random_rows

    @functools.lru_cache(maxsize=1)
    def draw(tokens: int, width: int) -> Any:
        return random_rows(tokens, width, torch.bfloat16, "cuda", SEED)

    yield draw
    draw.cache_clear()


@pytest.mark.sm80
@pytest.mark.perf(time="2% or 0.25us", memory="0", clock="device")
@pytest.mark.parametrize(("tokens", "width", "group", "codes"), CASES)
def test_slide_quantization(
    benchmark: Any,
    torch: ModuleType,
    activations: Callable[[int, int], Any],
    tokens: int,
    width: int,
    group: int,
    codes: str,
) -> None:
    from perf_kernels.slide_quantization import bytes_moved, slide_quantize_rows

    x = activations(tokens, width)
    benchmark.work(bytes=bytes_moved(tokens, width, group, x.element_size()))

    q, scale = benchmark(slide_quantize_rows, x, group, code_type(codes))

    assert_quantized_and_slid(torch, x, group, q, scale)


@pytest.mark.sm80
@pytest.mark.parametrize(("tokens", "width", "group", "codes"), LARGE)
def test_reaches_the_copy_bandwidth(
    torch: ModuleType, activations: Callable[[int, int], Any], tokens: int, width: int, group: int, codes: str
) -> None:
    """Goal: 95 % of what a copy reaches; not gated by a baseline."""
    from perf_kernels.slide_quantization import bytes_moved, slide_quantize_rows

    x = activations(tokens, width)
    assert_reaches_the_copy_bandwidth(
        slide_quantize_rows, (x, group, code_type(codes)), bytes_moved(tokens, width, group, x.element_size())
    )


@pytest.mark.sm80
@pytest.mark.parametrize(("tokens", "width", "group", "codes"), SMALL)
def test_few_tokens_are_quick(
    torch: ModuleType, activations: Callable[[int, int], Any], tokens: int, width: int, group: int, codes: str
) -> None:
    """Goal: under 6 us at 128 tokens; not gated by a baseline."""
    from perf_kernels.slide_quantization import slide_quantize_rows

    x = activations(tokens, width)
    assert_quick(slide_quantize_rows, (x, group, code_type(codes)))


@pytest.mark.sm80
@pytest.mark.parametrize(("tokens", "width", "group", "codes"), [case for case in CASES if case.values[2] == 8])
def test_never_slower_per_byte_than_vllm(
    torch: ModuleType, activations: Callable[[int, int], Any], tokens: int, width: int, group: int, codes: str
) -> None:
    """Against vLLM's quantisation alone, which writes a third less and does not slide: by the time a byte takes.

    vLLM has nothing that slides, and its quantisation comes within a seventh of the copy bandwidth on many shapes: what
    moves a sixth more bytes cannot be faster. Both by the device clock, in turns; not gated: the figures of one process
    are compared with each other.
    """
    vllm = pytest.importorskip(
        "vllm._custom_ops", reason="vllm is not installed: pip install -e '.[vllm]'", exc_type=ImportError
    )
    from perf_kernels import row_quantization, slide_quantization

    x = activations(tokens, width)
    if codes == "int8":
        theirs = functools.partial(vllm.scaled_int8_quant, symmetric=True)
    else:
        theirs = functools.partial(vllm.scaled_fp8_quant, use_per_token_if_dynamic=True)
    ours = functools.partial(slide_quantization.slide_quantize_rows, group=group, dtype=code_type(codes))
    more = slide_quantization.bytes_moved(tokens, width, group, 2) / row_quantization.bytes_moved(tokens, width, 2)

    ours_s, theirs_s = in_turns(ours, theirs, x)

    assert ours_s <= theirs_s * more * 1.02, (
        f"{ours_s * 1e6:.2f} us a call, vLLM {theirs_s * 1e6:.2f} us for 1/{more:.2f} of the bytes"
    )


# What plain torch allocates for a moment differs from process to process.
@pytest.mark.cpu
@pytest.mark.perf(memory="100%")
def test_slide_quantization_reference(benchmark: Any, torch: ModuleType) -> None:
    """The plain-torch reference on a small shape, on any machine."""
    pytest.importorskip("triton", reason="triton is not installed: pip install -e '.[suite]'")
    from perf_kernels.slide_quantization import bytes_moved, slide_quantize_rows_reference
    from perf_kernels.slide_quantization.inputs import random_rows

    x = random_rows(64, 2048, torch.bfloat16, "cpu", SEED)
    benchmark.work(bytes=bytes_moved(*x.shape, 8, x.element_size()))

    q, scale = benchmark(slide_quantize_rows_reference, x, 8)

    assert torch.equal(scale, x.float().abs().amax(dim=1) / 127)
    # The first and the last window of a group of 8.
    first, last = q.view(64, -1, 12)[..., :4], q.view(64, -1, 12)[..., 8:]
    groups = x.view(64, -1, 8).float() / scale[:, None, None]
    assert ((groups[..., :4] - first.float()).abs() <= 0.5001).all()
    assert ((groups[..., 4:] - last.float()).abs() <= 0.5001).all()


def assert_quantized_and_slid(torch: ModuleType, x: Any, group: int, q: Any, scale: Any) -> None:
    """Compare with the reference: all codes of some rows, the scale and the largest code of all."""
    from perf_kernels.rows import LARGEST_CODE
    from perf_kernels.slide_quantization import padded_rows, slid_width, slide_quantize_rows_reference

    rows = len(x)
    assert q.shape == (padded_rows(rows), slid_width(x.shape[1], group))
    drawn = torch.randint(rows, (CHECKED_ROWS - 2,), generator=torch.Generator().manual_seed(SEED)).tolist()
    some = torch.tensor(sorted({0, rows - 1, *drawn}), device=x.device)
    expected_q, expected_scale = slide_quantize_rows_reference(x[some], group, q.dtype)
    assert torch.equal(scale[some], expected_scale[: len(some)])
    assert torch.equal(q[some].view(torch.uint8), expected_q[: len(some)].view(torch.uint8))

    largest = torch.linalg.vector_norm(x, ord=torch.inf, dim=1).double()
    assert torch.equal(scale[:rows], (largest / LARGEST_CODE[q.dtype]).float())
    # 0x7E without the sign is 448 in FP8 e4m3.
    codes = q[:rows]
    reached = codes.abs() == 127 if q.dtype is torch.int8 else codes.view(torch.uint8) & 0x7F == 0x7E
    assert reached.any(dim=1).all()
