"""Does vLLM's activation, which shares no code with ours, give what our codes and scales stand for?

It rounds ``silu(gate)`` to the input's type before it multiplies, and the product again; ours rounds the product alone.
So its products may be the next but one, and quotients that are near a tie round the other way.
"""

from __future__ import annotations

import pytest
import torch

from perf_kernels.row_tests import DEVICE, FP8, HAS_FP8
from perf_kernels.silu_mul_quantization import silu_mul_quantize
from perf_kernels.silu_mul_quantization.inputs import random_gate_up
from perf_kernels.undeclared_tests import few_short_rows

needs_fp8 = pytest.mark.skipif(not HAS_FP8, reason="this GPU has no FP8")
#: Two roundings to bf16.
ROUNDED = 2 * 2**-8


@few_short_rows
@pytest.mark.parametrize("codes", [torch.int8, pytest.param(FP8, marks=needs_fp8)])
@pytest.mark.parametrize(("rows", "width"), [(7, 128), (16, 1792)])
def test_vllm(rows: int, width: int, codes: torch.dtype) -> None:
    pytest.importorskip("vllm._custom_ops", reason="vllm is not installed: pip install vllm", exc_type=ImportError)
    x = random_gate_up(rows, width, torch.bfloat16, DEVICE, 33)
    theirs = torch.empty((rows, width), dtype=x.dtype, device=x.device)
    torch.ops._C.silu_and_mul(theirs, x)

    q, scale = silu_mul_quantize(x, codes)

    largest = 127 if codes is torch.int8 else torch.finfo(codes).max
    torch.testing.assert_close(theirs.abs().amax(1).float() / largest, scale, rtol=ROUNDED, atol=0)
    wrong = (q.float() * scale[:, None] - theirs.float()).abs()
    assert (wrong <= half_a_step(q, scale) + ROUNDED * theirs.float().abs()).all()


def half_a_step(q: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Give by how much rounding to codes [rows, width] may have moved what they stand for, and a little more."""
    if q.dtype is torch.int8:
        return 0.5001 * scale[:, None]
    # Three bits of mantissa: half a step is a sixteenth of the power of two below, and 2**-10 of the smallest codes.
    return 1.001 * (q.float().abs() * 2**-4).clamp(min=2**-10) * scale[:, None]
