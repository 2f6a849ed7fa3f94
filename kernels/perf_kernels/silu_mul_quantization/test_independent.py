"""Does vLLM's activation, which shares no code with ours, give what our codes and scales stand for?

It rounds ``silu(gate)`` to the input's type before it multiplies, and the product again; ours rounds the product alone.
So its products may be the next but one, and quotients that are near a tie round the other way.
"""

from __future__ import annotations

import pytest
import torch

from perf_kernels.row_tests import DEVICE
from perf_kernels.silu_mul_quantization import silu_mul_quantize
from perf_kernels.silu_mul_quantization.inputs import random_gate_up
from perf_kernels.undeclared_tests import few_short_rows

#: Two roundings to bf16.
ROUNDED = 2 * 2**-8


@few_short_rows
@pytest.mark.parametrize(("rows", "width"), [(7, 128), (16, 1792)])
def test_vllm(rows: int, width: int) -> None:
    pytest.importorskip("vllm._custom_ops", reason="vllm is not installed: pip install vllm", exc_type=ImportError)
    x = random_gate_up(rows, width, torch.bfloat16, DEVICE, 33)
    theirs = torch.empty((rows, width), dtype=x.dtype, device=x.device)
    torch.ops._C.silu_and_mul(theirs, x)

    q, scale = silu_mul_quantize(x)

    torch.testing.assert_close(theirs.abs().amax(1).float() / 127, scale, rtol=ROUNDED, atol=0)
    wrong = (q.float() * scale[:, None] - theirs.float()).abs()
    assert (wrong <= 0.5001 * scale[:, None] + ROUNDED * theirs.float().abs()).all()
