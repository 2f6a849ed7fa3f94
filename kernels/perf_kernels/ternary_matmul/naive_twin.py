"""What does the kernel look like with 32-bit row offsets? A deliberate mistake that the index checks must catch."""

from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def naive_kernel(x_ptr, packed_ptr, gamma_ptr, y_ptr, width, row_bytes, COLUMNS: tl.constexpr):
    """Give one output a program for one token; ``output * row_bytes`` wraps past 2**31."""
    output = tl.program_id(0)
    column = tl.arange(0, COLUMNS)
    inside = column < width
    x = tl.load(x_ptr + column, mask=inside, other=0.0).to(tl.float32)
    scale = 127.0 / tl.maximum(tl.max(tl.abs(x), axis=0), 1e-5)
    q = (x * scale + 12582912.0) - 12582912.0
    field = column // 64 % 4
    byte = tl.load(packed_ptr + output * row_bytes + column // 256 * 64 + column % 64, mask=inside, other=0)
    code = byte.to(tl.int32) >> 2 * field & 3
    # The highest field is in two's complement, the others hold w + 1.
    weight = tl.where(field == 3, tl.where(code == 3, -1, code), code - 1)
    y = tl.sum(q * weight.to(tl.float32), axis=0) * tl.load(gamma_ptr) / scale
    tl.store(y_ptr + output, y)


def ternary_matvec_naively(x: torch.Tensor, packed: torch.Tensor, gamma: torch.Tensor) -> torch.Tensor:
    """Multiply one token ``x: [K]`` by packed weights; y [N] of x's type."""
    outputs, row_bytes = packed.shape
    y = torch.empty(outputs, dtype=x.dtype, device=x.device)
    width = x.shape[0]
    naive_kernel[(outputs,)](x, packed, gamma, y, width, row_bytes, triton.next_power_of_2(width))
    return y
