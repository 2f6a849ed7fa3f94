"""Is the function one operator in a compiled model, what does it refuse, and what does it make of nothing?"""

from __future__ import annotations

import pytest
import torch

from perf_kernels.compiled_tests import BACKEND
from perf_kernels.dequantize_bias import dequantize_bias, dequantize_bias_reference
from perf_kernels.dequantize_bias.inputs import random_products
from perf_kernels.row_tests import DEVICE, WRONG_DEVICE, refusal
from perf_kernels.undeclared_tests import few_products

pytestmark = few_products


@pytest.mark.parametrize(("rows", "columns"), [(0, 5), (5, 0), (0, 0)])
def test_empty(rows: int, columns: int) -> None:
    acc = torch.zeros((rows, columns), dtype=torch.int32, device=DEVICE)
    y = dequantize_bias(acc, torch.ones(rows, device=DEVICE), torch.ones(columns, device=DEVICE))
    assert (y.shape, y.dtype) == ((rows, columns), torch.bfloat16)


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("with_bias", [True, False])
def test_operator(with_bias: bool, scaled: bool) -> None:
    acc, row_scale, column_scale, bias = random_products(3, 50, torch.bfloat16 if scaled else torch.int32, DEVICE)
    torch.library.opcheck(
        torch.ops.perf_kernels.dequantize_bias.default,
        (acc, row_scale, None if scaled else column_scale, bias if with_bias else None, torch.bfloat16),
        test_utils=("test_schema", "test_faketensor", "test_autograd_registration"),
    )


def test_in_a_compiled_model() -> None:
    def model(acc: torch.Tensor, row_scale: torch.Tensor, column_scale: torch.Tensor) -> torch.Tensor:
        return dequantize_bias(acc + 1, row_scale, column_scale) * 2

    acc, row_scale, column_scale, _ = random_products(3, 50, torch.int32, DEVICE)
    y = torch.compile(model, backend=BACKEND, fullgraph=True)(acc, row_scale, column_scale)
    assert torch.equal(y, dequantize_bias_reference(acc + 1, row_scale, column_scale) * 2)


def vectors(rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.ones(rows, device=DEVICE), torch.ones(columns, device=DEVICE)


def test_wrong_accumulator_type() -> None:
    assert (
        refusal(TypeError, dequantize_bias, torch.zeros(2, 3, dtype=torch.int8, device=DEVICE), *vectors(2, 3))
        == "dequantize_bias: acc is torch.int8; it must be torch.int32, torch.float32 or torch.bfloat16"
    )


def test_wrong_result_type() -> None:
    assert refusal(
        TypeError, dequantize_bias, torch.zeros(2, 3, device=DEVICE), *vectors(2, 3), dtype=torch.float64
    ) == ("dequantize_bias: dtype is torch.float64; it must be torch.bfloat16, torch.float16 or torch.float32")


def test_wrong_dimensions() -> None:
    assert (
        refusal(ValueError, dequantize_bias, torch.zeros(2, 3, 4, device=DEVICE), *vectors(2, 3))
        == "dequantize_bias: acc has 3 dimensions; it must have 2, rows and columns"
    )


def test_wrong_scales() -> None:
    acc = torch.zeros(2, 3, device=DEVICE)
    rows, columns = vectors(2, 3)
    where = str(acc.device)
    assert refusal(ValueError, dequantize_bias, acc, torch.ones(3, device=DEVICE), columns) == (
        f"dequantize_bias: row_scale must be torch.float32 on {where}, contiguous, one dimension of at most 2; "
        f"it is [3] torch.float32 on {where} with strides [1]"
    )
    assert refusal(ValueError, dequantize_bias, acc, rows, columns.double()) == (
        f"dequantize_bias: column_scale must be torch.float32 on {where}, contiguous, one dimension of at most 3; "
        f"it is [3] torch.float64 on {where} with strides [1]"
    )
    assert refusal(ValueError, dequantize_bias, acc, rows, columns, columns[:2]) == (
        f"dequantize_bias: bias must be [3] torch.bfloat16, torch.float16 or torch.float32 on {where}, contiguous; "
        f"it is [2] torch.float32 on {where} with strides [1]"
    )
    assert refusal(ValueError, dequantize_bias, acc, rows, None, columns[:2]) == (
        f"dequantize_bias: bias must be [3] torch.bfloat16, torch.float16 or torch.float32 on {where}, contiguous; "
        f"it is [2] torch.float32 on {where} with strides [1]"
    )


def test_wrong_device() -> None:
    acc, rows, columns = (torch.zeros(shape, device="meta") for shape in ((2, 3), 2, 3))
    assert (
        refusal(ValueError, dequantize_bias, acc, rows, columns) == f"dequantize_bias: acc is on meta; {WRONG_DEVICE}"
    )


def test_wrong_out() -> None:
    acc = torch.zeros(2, 3, device=DEVICE)
    where = str(acc.device)
    assert refusal(
        ValueError, dequantize_bias, acc, *vectors(2, 3), out=torch.empty(3, 2, dtype=torch.bfloat16, device=DEVICE).t()
    ) == (
        f"dequantize_bias: out must be [2, 3] torch.bfloat16 on {where} with unit column stride; "
        f"it is [2, 3] torch.bfloat16 on {where} with strides [1, 2]"
    )


def test_a_result_over_other_accumulators() -> None:
    row_scale, _ = vectors(4, 8)
    memory = torch.zeros(5 * 8, dtype=torch.bfloat16, device=DEVICE)
    acc = memory[:32].view(4, 8)
    where = str(torch.empty(0, device=DEVICE).device)
    described = f"[4, 8] torch.bfloat16 on {where} with strides [8, 1]"
    for start in (1, 8):
        out = memory[start : start + 32].view(4, 8)
        assert refusal(ValueError, dequantize_bias, acc, row_scale, None, out=out) == (
            "dequantize_bias: out must have memory of its own, or the elements of acc at the same addresses; it is "
            f"{described} over {described}"
        )
    wide = torch.zeros(4, 8, dtype=torch.int32, device=DEVICE)
    narrow = wide.view(torch.bfloat16)[:, :8]
    assert "over [4, 8] torch.int32" in refusal(
        ValueError, dequantize_bias, wide, row_scale, torch.ones(8, device=DEVICE), out=narrow
    )


@pytest.mark.parametrize("start", [0, 32])
def test_a_result_in_place_or_beside(start: int) -> None:
    memory = torch.ones(64, dtype=torch.bfloat16, device=DEVICE)
    out = memory[start : start + 32].view(4, 8)
    scale = torch.tensor([1.0, 2.0, 3.0, 4.0], device=DEVICE)
    assert dequantize_bias(memory[:32].view(4, 8), scale, None, out=out) is out
    assert out.tolist() == [[each] * 8 for each in (1.0, 2.0, 3.0, 4.0)]
