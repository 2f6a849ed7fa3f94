"""What does the kernel look like with 32-bit row offsets? A deliberate mistake that the index checks must catch."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from perf_kernels.rows import largest_of, magnitude, scale_and_inverse, to_codes


@triton.jit
def naive_kernel(x_ptr, q_ptr, scale_ptr, width, row_stride, TILE: tl.constexpr):
    """Quantise one row a program to INT8; ``row * row_stride`` wraps past 2**31."""
    row = tl.program_id(0)
    column = tl.arange(0, TILE)
    x = tl.load(x_ptr + row * row_stride + column, mask=column < width, other=0.0)
    scale, inverse, lack = scale_and_inverse(largest_of(magnitude(x), x_ptr.dtype.element_ty), 127.0, True)
    tl.store(scale_ptr + row, scale)
    tl.store(q_ptr + row * row_stride + column, to_codes(x, inverse, lack, tl.int8), mask=column < width)


def quantize_rows_naively(x: torch.Tensor, q: torch.Tensor, scale: torch.Tensor) -> None:
    """Launch the twin on contiguous ``x: [M, K]``, ``q: [M, K]`` int8 and ``scale: [M]`` fp32."""
    rows, width = x.shape
    naive_kernel[(rows,)](x, q, scale, width, x.stride(0), triton.next_power_of_2(width))
