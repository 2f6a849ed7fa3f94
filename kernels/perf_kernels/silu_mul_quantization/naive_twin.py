"""What does the kernel look like with 32-bit row offsets? A deliberate mistake that the index checks must catch."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from perf_kernels.rows import largest_of, magnitude, scale_and_inverse, to_codes


@triton.jit
def naive_kernel(x_ptr, q_ptr, scale_ptr, width, row_stride, TILE: tl.constexpr):
    """Make one row a program in INT8; ``row * row_stride`` wraps past 2**31."""
    row = tl.program_id(0)
    column = tl.arange(0, TILE)
    inside = column < width
    gate = tl.load(x_ptr + row * row_stride + column, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(x_ptr + row * row_stride + width + column, mask=inside, other=0.0).to(tl.float32)
    y = (gate / (1.0 + tl.exp(-gate)) * up).to(x_ptr.dtype.element_ty)
    scale, inverse, lack = scale_and_inverse(largest_of(magnitude(y), y.dtype), 127.0, True)
    tl.store(scale_ptr + row, scale)
    tl.store(q_ptr + row * width + column, to_codes(y, inverse, lack, tl.int8), mask=inside)


def naive_silu_mul_quantize(gate_up: torch.Tensor, q: torch.Tensor, scale: torch.Tensor) -> None:
    """Launch the twin on contiguous ``gate_up: [M, 2 I]``, ``q: [M, I]`` int8 and ``scale: [M]`` fp32."""
    rows, width = q.shape
    naive_kernel[(rows,)](gate_up, q, scale, width, gate_up.stride(0), triton.next_power_of_2(width))
