"""Accumulators scaled back to bf16 for the projections of four served models, 128 to 65536 tokens.

fp16 and fp32 results and fp32 accumulators are timed at one width. Products that cuSPARSELt wrote as bf16, with the
weights' scales applied, are timed at the widths of Qwen2.5-7B, in both orders of memory.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from perf_kernels.model_shapes import MODELS, TOKENS
from perf_workloads.slidesparse.row_cases import (
    LARGE_BYTES,
    SMALL_S,
    SMALL_TOKENS,
    assert_quick,
    assert_reaches_the_copy_bandwidth,
)

SEED = 23
#: Rows that are compared with the reference.
CHECKED_ROWS = 64
#: Columns of the fused query, key and value projection, by model: heads and key-value heads times the head's width.
QKV = {"Llama3.2-1B": 3072, "Llama3.2-3B": 5120, "Qwen2.5-7B": 4608, "Qwen2.5-14B": 7168}
#: Query, key and value; gate and up; and the two projections back to the residual stream.
COLUMNS = sorted({columns for model in MODELS for columns in (QKV[model.name], 2 * model.intermediate, model.hidden)})
#: Accumulators of one shape are drawn once for the cases that follow each other.
CASES = [
    pytest.param(tokens, columns, acc, result, id=f"{acc}-{result}-{columns}-{tokens}")
    for tokens in TOKENS
    for columns in COLUMNS
    for acc, result in (("int32", "bfloat16"), ("int32", "float16"), ("int32", "float32"), ("float32", "bfloat16"))
    if (acc, result) == ("int32", "bfloat16") or (columns == 3584 and tokens in (128, 8192, 65536))
]
#: Of products that are bf16 and scaled: written row by row, or column by column.
SCALED = [
    pytest.param(tokens, columns, order, id=f"{order}-{columns}-{tokens}")
    for tokens in TOKENS
    for columns in (3584, 4608, 37888)
    for order in ("rows", "columns")
]
#: At least 6 bytes a result.
LARGE = [case for case in CASES if 6 * case.values[0] * case.values[1] > LARGE_BYTES]
SMALL = [case for case in CASES if case.values[0] == SMALL_TOKENS and case.values[1] <= 16384]


def may_fail(case: Any, reason: str) -> Any:
    """Give a goal that is expected to fail, and may be reached."""
    mark = pytest.mark.xfail(raises=AssertionError, strict=False, reason=reason)
    return pytest.param(*case.values, marks=mark, id=case.id)


def missed(case: Any, how: str) -> Any:
    """Give a goal that is expected to be missed, as it was on an H200 when its baseline was recorded."""
    return may_fail(case, f"missed: {how} on an H200, 2026-11-22")


#: What reads column by column and writes row by row: 4 bytes a result. By tokens and columns how far the baselines are
#: from the goal; of 37888 columns 65536 tokens go by the test, since their processes differ. What is not named reached
#: it by more than 1.5 %, the most that a case of these changed by from one day to the next without another launch.
SHORT = {
    (2048, 37888): "missed: 93.9 % of 95 %",
    (4096, 37888): "reached within the noise: 95.7 % of 95 %",
    (8192, 37888): "reached within the noise: 96.4 % of 95 %",
    (16384, 4608): "missed: 94.6 % of 95 %",
    (32768, 3584): "reached within the noise: 96.1 % of 95 %",
    (32768, 4608): "reached within the noise: 96.1 % of 95 %",
    (65536, 3584): "missed: 92.2 % of 95 %",
    (65536, 4608): "missed: 92.3 % of 95 %",
    (65536, 37888): "missed: 94.8 to 97.7 % of 95 % in five processes, less in the test",
}
LARGE_SCALED = [
    may_fail(case, f"{SHORT[case.values[:2]]} on an H200, 2026-11-23")
    if case.values[2] == "columns" and case.values[:2] in SHORT
    else case
    for case in SCALED
    if 4 * case.values[0] * case.values[1] > LARGE_BYTES
]
FLOOR = 0.85
#: 21 and 29 MB: they alone take 5 and 7 us at the copy bandwidth.
LONG = {27648: 7.28, 37888: 9.28}
SMALL_LONG = [
    missed(case, f"{LONG[case.values[1]]} us of 6")
    for case in CASES
    if case.values[0] == SMALL_TOKENS and case.values[1] in LONG
]
SMALL_SCALED = [
    missed(case, "6.8 and 7.0 us of 6") if case.values[1] == 37888 else case
    for case in SCALED
    if case.values[0] == SMALL_TOKENS
]
#: Beyond these a goal that is expected to be missed is missed by more than ever.
CEILING_S = {27648: 8e-6, 37888: 10e-6}


@pytest.fixture(scope="module")
def products(torch: ModuleType) -> Iterator[Callable[[int, int, str], Any]]:
    """Give ``products(tokens, columns, acc)`` on the GPU, kept until another shape is asked for."""
    pytest.importorskip("triton", reason="triton is not installed: pip install -e '.[suite]'")
    from perf_kernels.dequantize_bias.inputs import random_products

    @functools.lru_cache(maxsize=1)
    def draw(tokens: int, columns: int, acc: str) -> Any:
        return random_products(tokens, columns, getattr(torch, acc), "cuda", SEED)

    yield draw
    draw.cache_clear()


@pytest.mark.sm80
@pytest.mark.cuda
@pytest.mark.perf(time="2% or 0.25us", memory="0", clock="device")
@pytest.mark.parametrize(("tokens", "columns", "acc", "result"), CASES)
def test_dequantize_bias(
    benchmark: Any,
    torch: ModuleType,
    products: Callable[[int, int, str], Any],
    tokens: int,
    columns: int,
    acc: str,
    result: str,
) -> None:
    from perf_kernels.dequantize_bias import bytes_moved, dequantize_bias

    inputs = products(tokens, columns, acc)
    dtype = getattr(torch, result)
    benchmark.work(bytes=bytes_moved(tokens, columns, dtype.itemsize, inputs[3].element_size()))

    y = benchmark(dequantize_bias, *inputs, dtype)

    assert_scaled_back(torch, inputs, dtype, y)


@pytest.mark.sm80
@pytest.mark.cuda
@pytest.mark.perf(time="2% or 0.25us", memory="0", clock="device")
@pytest.mark.parametrize(("tokens", "columns", "order"), SCALED)
def test_scale_rows(
    benchmark: Any,
    torch: ModuleType,
    products: Callable[[int, int, str], Any],
    tokens: int,
    columns: int,
    order: str,
) -> None:
    """Not in place, so that each round has the same products; in place as many bytes are moved."""
    from perf_kernels.dequantize_bias import bytes_moved, dequantize_bias, dequantize_bias_reference

    scaled, row_scale, _, bias = scaled_products(products, tokens, columns, order)
    benchmark.work(bytes=bytes_moved(tokens, columns, 2, bias.element_size(), scaled.element_size()))

    y = benchmark(dequantize_bias, scaled, row_scale, None, bias)

    rows = sampled_rows(torch, scaled)
    assert torch.equal(y[rows], dequantize_bias_reference(scaled[rows], row_scale[rows], None, bias))
    assert_of_its_size(torch, y, row_scale)


def scaled_products(products: Callable[[int, int, str], Any], tokens: int, columns: int, order: str) -> Any:
    """Give the arguments of a call: products in bf16 in one order of memory, scales of rows, none of columns, bias."""
    scaled, row_scale, _, bias = products(tokens, columns, "bfloat16")
    if order == "columns":
        scaled = scaled.t().contiguous().t()
    return scaled, row_scale, None, bias


@pytest.mark.sm80
@pytest.mark.cuda
@pytest.mark.parametrize(("tokens", "columns", "acc", "result"), LARGE)
def test_reaches_the_copy_bandwidth(
    torch: ModuleType, products: Callable[[int, int, str], Any], tokens: int, columns: int, acc: str, result: str
) -> None:
    """Goal: 95 % of what a copy reaches; not gated by a baseline."""
    from perf_kernels.dequantize_bias import bytes_moved, dequantize_bias

    inputs, dtype = products(tokens, columns, acc), getattr(torch, result)
    assert_reaches_the_copy_bandwidth(
        dequantize_bias, (*inputs, dtype), bytes_moved(tokens, columns, dtype.itemsize, inputs[3].element_size())
    )


@pytest.mark.sm80
@pytest.mark.cuda
@pytest.mark.parametrize(("tokens", "columns", "order"), LARGE_SCALED)
def test_scaling_rows_reaches_the_copy_bandwidth(
    torch: ModuleType, products: Callable[[int, int, str], Any], tokens: int, columns: int, order: str
) -> None:
    """The same goal, of products that are bf16 and scaled."""
    from perf_kernels.dequantize_bias import bytes_moved, dequantize_bias

    arguments = scaled_products(products, tokens, columns, order)
    moved = bytes_moved(tokens, columns, 2, arguments[3].element_size(), arguments[0].element_size())
    assert_reaches_the_copy_bandwidth(dequantize_bias, arguments, moved, floor=FLOOR)


@pytest.mark.sm80
@pytest.mark.cuda
@pytest.mark.parametrize(("tokens", "columns", "acc", "result"), [*SMALL, *SMALL_LONG])
def test_few_tokens_are_quick(
    torch: ModuleType, products: Callable[[int, int, str], Any], tokens: int, columns: int, acc: str, result: str
) -> None:
    """Goal: under 6 us at 128 tokens; not gated by a baseline."""
    from perf_kernels.dequantize_bias import dequantize_bias

    arguments = (*products(tokens, columns, acc), getattr(torch, result))
    assert_quick(dequantize_bias, arguments, ceiling_s=CEILING_S.get(columns, SMALL_S))


@pytest.mark.sm80
@pytest.mark.cuda
@pytest.mark.parametrize(("tokens", "columns", "order"), SMALL_SCALED)
def test_scaling_few_rows_is_quick(
    torch: ModuleType, products: Callable[[int, int, str], Any], tokens: int, columns: int, order: str
) -> None:
    """The same goal, of products that are bf16 and scaled."""
    from perf_kernels.dequantize_bias import dequantize_bias

    assert_quick(
        dequantize_bias,
        scaled_products(products, tokens, columns, order),
        ceiling_s=CEILING_S.get(columns, SMALL_S),
    )


# What plain torch allocates for a moment differs from process to process.
@pytest.mark.cpu
@pytest.mark.perf(memory="100%")
def test_dequantize_bias_reference(benchmark: Any, torch: ModuleType) -> None:
    """The plain-torch reference on a small shape, on any machine."""
    pytest.importorskip("triton", reason="triton is not installed: pip install -e '.[suite]'")
    from perf_kernels.dequantize_bias import bytes_moved, dequantize_bias_oracle, dequantize_bias_reference
    from perf_kernels.dequantize_bias.inputs import random_products

    inputs = random_products(64, 2048, torch.int32, "cpu", SEED)
    benchmark.work(bytes=bytes_moved(64, 2048, 2, 2))

    y = benchmark(dequantize_bias_reference, *inputs)

    oracle = dequantize_bias_oracle(*inputs)
    # Half a step of bf16, and of fp32 where large terms cancel.
    assert ((y.double() - oracle).abs() <= oracle.abs() * 2**-8 + 1e-3).all()


def assert_scaled_back(torch: ModuleType, inputs: Any, dtype: Any, y: Any) -> None:
    """Compare some rows with the reference, bit for bit, and all with their largest magnitude."""
    from perf_kernels.dequantize_bias import dequantize_bias_reference

    acc, row_scale, column_scale, bias = inputs
    assert (y.shape, y.dtype) == (acc.shape, dtype)
    rows = sampled_rows(torch, acc)
    expected = dequantize_bias_reference(acc[rows], row_scale[rows], column_scale, bias, dtype)
    assert torch.equal(y[rows], expected)
    assert_of_its_size(torch, y, row_scale)


def sampled_rows(torch: ModuleType, acc: Any) -> Any:
    """Give the numbers of some rows, the first and the last among them."""
    drawn = torch.randint(len(acc), (CHECKED_ROWS - 2,), generator=torch.Generator().manual_seed(SEED)).tolist()
    return torch.tensor(sorted({0, len(acc) - 1, *drawn}), device=acc.device)


def assert_of_its_size(torch: ModuleType, y: Any, row_scale: Any) -> None:
    """Check that each row has the size that its scale gives: one not written, or written from elsewhere, has not."""
    size = torch.linalg.vector_norm(y, dim=1, dtype=torch.float32) / row_scale
    assert ((size / size.mean() - 1).abs() <= 0.5).all()
