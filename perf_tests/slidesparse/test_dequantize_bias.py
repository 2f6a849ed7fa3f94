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
#: What 128 tokens of gate and up move takes longer than the goal by itself on a card of 2 TB/s.
SMALL = [case for case in CASES if case.values[0] == SMALL_TOKENS and case.values[1] <= 8192]


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

    scaled, row_scale, _, bias = products(tokens, columns, "bfloat16")
    if order == "columns":
        scaled = scaled.t().contiguous().t()
    benchmark.work(bytes=bytes_moved(tokens, columns, 2, bias.element_size(), scaled.element_size()))

    y = benchmark(dequantize_bias, scaled, row_scale, None, bias)

    rows = sampled_rows(torch, scaled)
    assert torch.equal(y[rows], dequantize_bias_reference(scaled[rows], row_scale[rows], None, bias))
    assert_of_its_size(torch, y, row_scale)


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
@pytest.mark.parametrize(("tokens", "columns", "acc", "result"), SMALL)
def test_few_tokens_are_quick(
    torch: ModuleType, products: Callable[[int, int, str], Any], tokens: int, columns: int, acc: str, result: str
) -> None:
    """Goal: under 6 us at 128 tokens; not gated by a baseline."""
    from perf_kernels.dequantize_bias import dequantize_bias

    arguments = (*products(tokens, columns, acc), getattr(torch, result))
    assert_quick(dequantize_bias, arguments)


@pytest.mark.cpu
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
