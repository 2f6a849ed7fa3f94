"""What does the kernel look like with 32-bit row offsets? A deliberate mistake that the index checks must catch."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from perf_kernels.rows import largest_of, magnitude, scale_and_inverse, to_codes
from perf_kernels.slide_quantization.launch import slid_width


@triton.jit
def naive_kernel(
    x_ptr,
    q_ptr,
    scale_ptr,
    width,
    q_width,
    x_row_stride,
    q_row_stride,
    GROUP: tl.constexpr,
    TILE: tl.constexpr,
    STEPS: tl.constexpr,
):
    """Make one row a program in INT8; ``row * q_row_stride`` wraps past 2**31, before ``row * x_row_stride`` does."""
    row = tl.program_id(0)
    column = tl.arange(0, TILE)
    x = tl.load(x_ptr + row * x_row_stride + column, mask=column < width, other=0.0)
    scale, inverse, lack = scale_and_inverse(largest_of(magnitude(x), x_ptr.dtype.element_ty), 127.0, True)
    tl.store(scale_ptr + row, scale)
    for i in range(STEPS):
        slid = i * TILE + column
        window = slid // 4
        source = window // (GROUP // 2 - 1) * GROUP + window % (GROUP // 2 - 1) * 2 + slid % 4
        again = tl.load(x_ptr + row * x_row_stride + source, mask=source < width, other=0.0)
        q = to_codes(again, inverse, lack, tl.int8)
        tl.store(q_ptr + row * q_row_stride + slid, q, mask=slid < q_width)


def naive_slide(x: torch.Tensor, group: int, q: torch.Tensor, scale: torch.Tensor) -> None:
    """Launch the twin on contiguous ``x: [M, K]``, ``q: [M, K']`` int8, ``scale: [M]`` fp32; makes no padding rows."""
    rows, width = x.shape
    tile = triton.next_power_of_2(width)
    q_width = slid_width(width, group)
    naive_kernel[(rows,)](
        x, q, scale, width, q_width, x.stride(0), q.stride(0), group, tile, triton.cdiv(q_width, tile)
    )
