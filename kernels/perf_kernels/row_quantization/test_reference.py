"""Is the reference right where the result is known, and does the interpreter round as it does?"""

from __future__ import annotations

import pytest
import torch

from perf_kernels.row_quantization import quantize_rows, quantize_rows_reference
from perf_kernels.row_tests import DEVICE, FP8, by_code
from perf_kernels.rows import SMALLEST_SCALE
from perf_kernels.undeclared_tests import any_type_of_rows, few_short_rows


def test_reference_of_a_known_row() -> None:
    x = torch.tensor([[254.0, -254.0, 1.0, 3.0, -1.0, 0.5, 100.0]])
    q, scale = quantize_rows_reference(x)
    assert q.tolist() == [[127, -127, 0, 2, 0, 0, 50]]
    assert scale.tolist() == [2.0]
    q, scale = quantize_rows_reference(torch.tensor([[448.0, 17.0, 19.0, -1.0, 2.0**-10, 3 * 2.0**-10]]), FP8)
    assert q.float().tolist() == [[448.0, 16.0, 20.0, -1.0, 0.0, 2.0**-8]]
    assert scale.tolist() == [1.0]


@any_type_of_rows
@few_short_rows
@pytest.mark.skipif(DEVICE == "cuda", reason="the interpreter is not used on a GPU")
def test_interpreter_rounds_as_a_gpu() -> None:
    x = torch.tensor([[448.0, 1.9375, 1.0625, -1.1875, 2.0**-10, 3 * 2.0**-10, 1.25 * 2.0**-9]])
    q, _ = quantize_rows(x, FP8)
    assert q.float().tolist() == [[448.0, 2.0, 1.0, -1.25, 0.0, 2.0**-8, 2.0**-9]]


@by_code
@pytest.mark.parametrize("shape", [(0, 5), (0, 0), (3, 0)], ids=str)
def test_reference_of_nothing(shape: tuple[int, int], code: torch.dtype) -> None:
    q, scale = quantize_rows_reference(torch.empty(shape, dtype=torch.bfloat16, device=DEVICE), code)
    assert (q.shape, q.dtype) == (shape, code)
    assert scale.tolist() == [SMALLEST_SCALE] * shape[0]
