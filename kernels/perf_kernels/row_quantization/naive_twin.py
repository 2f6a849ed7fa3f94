"""What does the kernel look like with 32-bit row offsets? A deliberate mistake that the index checks must catch."""

from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def naive_kernel(x_ptr, q_ptr, scale_ptr, width, row_stride, TILE: tl.constexpr):
    """Quantise one row a program to INT8; ``row * row_stride`` wraps past 2**31."""
    row = tl.program_id(0)
    column = tl.arange(0, TILE)
    x = tl.load(x_ptr + row * row_stride + column, mask=column < width, other=0.0).to(tl.float32)
    scale = tl.max(tl.abs(x), axis=0) / 127.0
    tl.store(scale_ptr + row, scale)
    q = (x / scale + 12582912.0).to(tl.int32, bitcast=True).to(tl.int8)
    tl.store(q_ptr + row * row_stride + column, q, mask=column < width)


def quantize_rows_naively(x: torch.Tensor, q: torch.Tensor, scale: torch.Tensor) -> None:
    """Launch the twin on contiguous ``x: [M, K]``, ``q: [M, K]`` int8 and ``scale: [M]`` fp32."""
    rows, width = x.shape
    naive_kernel[(rows,)](x, q, scale, width, x.stride(0), triton.next_power_of_2(width))
