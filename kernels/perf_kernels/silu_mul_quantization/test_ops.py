"""Is the function one operator in a compiled model, what does it refuse, and what does it make of nothing?"""

from __future__ import annotations

import torch

from perf_kernels.compiled_tests import BACKEND
from perf_kernels.quantizer_tests import QuantizerTests
from perf_kernels.row_tests import DEVICE, by_code, refusal
from perf_kernels.silu_mul_quantization import silu_mul_quantize
from perf_kernels.silu_mul_quantization.inputs import random_gate_up
from perf_kernels.undeclared_tests import few_short_rows

pytestmark = few_short_rows


class TestArguments(QuantizerTests):
    caller = "silu_mul_quantize"
    argument = "gate_up"
    max_width = 2**30
    quantize = staticmethod(silu_mul_quantize)

    @staticmethod
    def shape(rows: int, width: int) -> tuple[int, int]:
        """Give the shape of the product."""
        return rows, width // 2

    def test_odd_width(self) -> None:
        assert refusal(ValueError, silu_mul_quantize, torch.zeros(2, 3, device=DEVICE)) == (
            "silu_mul_quantize: gate_up has rows of 3 elements; it must have two equal halves"
        )


@by_code
def test_operator(code: torch.dtype) -> None:
    torch.library.opcheck(
        torch.ops.perf_kernels.silu_mul_quantize.default,
        (random_gate_up(3, 50, torch.bfloat16, DEVICE), code),
        test_utils=("test_schema", "test_faketensor", "test_autograd_registration"),
    )


def test_in_a_compiled_model() -> None:
    def model(gate_up: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        q, scale = silu_mul_quantize(gate_up * 2)
        return q, scale * 2

    gate_up = random_gate_up(3, 70, torch.bfloat16, DEVICE)
    q, scale = torch.compile(model, backend=BACKEND, fullgraph=True)(gate_up)
    expected_q, expected_scale = silu_mul_quantize(gate_up * 2)
    assert torch.equal(q, expected_q)
    assert torch.equal(scale, expected_scale * 2)
