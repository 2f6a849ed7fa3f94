"""What does the kernel look like with 32-bit row offsets? A deliberate mistake that the index checks must catch."""

from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def naive_kernel(x_ptr, weight_ptr, y_ptr, width, TILE: tl.constexpr):
    """Give one output a program for one token; ``output * width`` wraps past 2**31."""
    output = tl.program_id(0)
    sums = tl.zeros([TILE], tl.float32)
    for i in range(tl.cdiv(width, TILE)):
        column = i * TILE + tl.arange(0, TILE)
        inside = column < width
        x = tl.load(x_ptr + column, mask=inside, other=0.0).to(tl.float32)
        sums += x * tl.load(weight_ptr + output * width + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(y_ptr + output, tl.sum(sums, axis=0))


def matvec_naively(x: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Multiply one token ``x: [K]`` by ``values: [N, K]``; y [N] of x's type."""
    outputs, width = values.shape
    y = torch.empty(outputs, dtype=x.dtype, device=x.device)
    naive_kernel[(outputs,)](x, values, y, width, 1024)
    return y
