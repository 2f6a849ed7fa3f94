"""Is ``quantize_rows`` one operator in a compiled model, what does it refuse, and what does it make of nothing?"""

from __future__ import annotations

import os
import shutil

import pytest
import torch

from perf_kernels.compiled_tests import BACKEND
from perf_kernels.quantizer_tests import QuantizerTests
from perf_kernels.row_quantization import quantize_rows, quantize_rows_reference
from perf_kernels.row_quantization.inputs import random_rows
from perf_kernels.row_tests import DEVICE, assert_same, by_code, refusal
from perf_kernels.undeclared_tests import any_layout_of_rows, few_short_rows

pytestmark = few_short_rows


class TestArguments(QuantizerTests):
    caller = "quantize_rows"
    argument = "x"
    max_width = 2**30
    quantize = staticmethod(quantize_rows)


@by_code
def test_operator(code: torch.dtype) -> None:
    x = random_rows(3, 50, torch.bfloat16, DEVICE)
    torch.library.opcheck(
        torch.ops.perf_kernels.row_quantization.default,
        (x, code),
        test_utils=("test_schema", "test_faketensor", "test_autograd_registration"),
    )


@by_code
@pytest.mark.parametrize(
    "backend",
    [
        "aot_eager",
        pytest.param(
            "inductor",
            marks=pytest.mark.skipif(not shutil.which(os.environ.get("CXX", "g++")), reason="there is no C++ compiler"),
        ),
    ],
)
def test_in_a_compiled_model(code: torch.dtype, backend: str) -> None:
    def model(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        q, scale = quantize_rows(x + 1, code)
        return q, scale * 2

    x = random_rows(2, 70, torch.bfloat16, DEVICE)
    q, scale = torch.compile(model, backend=backend, fullgraph=True)(x)
    expected_q, expected_scale = quantize_rows_reference(x + 1, code)
    assert_same((q, scale), (expected_q, expected_scale * 2))


@any_layout_of_rows
def test_operator_of_rows_with_strides() -> None:
    """What is captured and what is launched have the same strides, whatever those of the values are."""
    x = random_rows(70, 3, torch.bfloat16, DEVICE).t()
    q, scale = torch.compile(quantize_rows, backend=BACKEND, fullgraph=True)(x)
    assert (q.stride(), scale.stride()) == ((70, 1), (1,))
    assert_same((q, scale), quantize_rows_reference(x))


def test_operator_on_tensors_without_memory() -> None:
    q, scale = torch.ops.perf_kernels.row_quantization(torch.empty(5, 7, device="meta"), torch.float8_e4m3fn)
    assert (q.shape, q.dtype, q.device.type) == ((5, 7), torch.float8_e4m3fn, "meta")
    assert (scale.shape, scale.dtype, scale.device.type) == ((5,), torch.float32, "meta")


def test_operator_refuses_what_the_function_refuses() -> None:
    operator = torch.ops.perf_kernels.row_quantization
    with pytest.raises(TypeError) as caught:
        operator(torch.zeros(2, 2, dtype=torch.float64, device="meta"), torch.int8)
    assert str(caught.value) == refusal(TypeError, quantize_rows, torch.zeros(2, 2, dtype=torch.float64, device=DEVICE))
