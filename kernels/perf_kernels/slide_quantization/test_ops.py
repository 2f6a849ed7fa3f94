"""Is the function one operator in a compiled model, what does it refuse, and what does it make of nothing?"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from perf_kernels.compiled_tests import BACKEND
from perf_kernels.quantizer_tests import QuantizerTests
from perf_kernels.row_tests import DEVICE, assert_same, by_code, refusal
from perf_kernels.slide_quantization import (
    padded_rows,
    slid_width,
    slide_quantize_rows,
    slide_quantize_rows_reference,
)
from perf_kernels.slide_quantization.inputs import random_rows
from perf_kernels.undeclared_tests import few_short_rows

pytestmark = few_short_rows


class TestArguments(QuantizerTests):
    caller = "slide_quantize_rows"
    argument = "x"
    max_width = 2**29

    @staticmethod
    def quantize(x: torch.Tensor, dtype: torch.dtype = torch.int8, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Quantise and slide, for 2:8."""
        return slide_quantize_rows(x, 8, dtype, **options)

    @staticmethod
    def shape(rows: int, width: int) -> tuple[int, int]:
        """Give the shape with its padding."""
        return padded_rows(rows), slid_width(width, 8)

    @pytest.mark.parametrize("group", [0, 2, 5, 14])
    def test_wrong_group(self, group: int) -> None:
        assert refusal(ValueError, slide_quantize_rows, torch.zeros(2, 2, device=DEVICE), group) == (
            f"slide_quantize_rows: group is {group}; it must be 4, 6, 8, 10 or 12"
        )

    def test_wrong_out(self) -> None:
        x = torch.zeros(2, 3, device=DEVICE)
        q, scale = torch.empty(16, 32, dtype=torch.int8, device=DEVICE), torch.empty(16, device=DEVICE)
        where = str(x.device)
        turned = torch.empty(32, 16, dtype=torch.int8, device=DEVICE).t()
        assert refusal(ValueError, slide_quantize_rows, x, 8, out=(turned, scale)) == (
            f"slide_quantize_rows: out[0] must be [16, 32] torch.int8 on {where}, contiguous and aligned to 4 bytes; "
            f"it is [16, 32] torch.int8 on {where} with strides [1, 16] and offset 0"
        )
        room = torch.empty(16 * 32 + 2, dtype=torch.int8, device=DEVICE)[2:].view(16, 32)
        assert refusal(ValueError, slide_quantize_rows, x, 8, out=(room, scale)) == (
            f"slide_quantize_rows: out[0] must be [16, 32] torch.int8 on {where}, contiguous and aligned to 4 bytes; "
            f"it is [16, 32] torch.int8 on {where} with strides [32, 1] and offset 2"
        )
        assert refusal(ValueError, slide_quantize_rows, x, 8, out=(q, scale[:2])) == (
            f"slide_quantize_rows: out[1] must be [16] torch.float32 on {where}, contiguous and aligned to 4 bytes; "
            f"it is [2] torch.float32 on {where} with strides [1] and offset 0"
        )


@by_code
def test_operator(code: torch.dtype) -> None:
    x = random_rows(3, 50, torch.bfloat16, DEVICE)
    torch.library.opcheck(
        torch.ops.perf_kernels.slide_quantize_rows.default,
        (x, 8, code),
        test_utils=("test_schema", "test_faketensor", "test_autograd_registration"),
    )


def test_in_a_compiled_model() -> None:
    def model(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        q, scale = slide_quantize_rows(x + 1, 6)
        return q, scale * 2

    x = random_rows(2, 70, torch.bfloat16, DEVICE)
    q, scale = torch.compile(model, backend=BACKEND, fullgraph=True)(x)
    expected_q, expected_scale = slide_quantize_rows_reference(x + 1, 6)
    assert_same((q, scale), (expected_q, expected_scale * 2))
