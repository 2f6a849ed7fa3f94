"""What does the kernel look like with 32-bit row offsets? A deliberate mistake that the index checks must catch."""

from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def naive_kernel(
    acc_ptr, row_scale_ptr, column_scale_ptr, y_ptr, columns, row_stride, TILE: tl.constexpr, STEPS: tl.constexpr
):
    """Scale one row back a program; ``row * row_stride`` wraps past 2**31."""
    row = tl.program_id(0)
    row_scale = tl.load(row_scale_ptr + row)
    for i in range(STEPS):
        column = i * TILE + tl.arange(0, TILE)
        inside = column < columns
        acc = tl.load(acc_ptr + row * row_stride + column, mask=inside, other=0)
        y = acc.to(tl.float32) * row_scale * tl.load(column_scale_ptr + column, mask=inside, other=0.0)
        tl.store(y_ptr + row * row_stride + column, y.to(y_ptr.dtype.element_ty), mask=inside)


def naive_dequantize(acc: torch.Tensor, row_scale: torch.Tensor, column_scale: torch.Tensor, y: torch.Tensor) -> None:
    """Launch the twin on contiguous ``acc`` and ``y``, both [M, N]."""
    rows, columns = acc.shape
    naive_kernel[(rows,)](acc, row_scale, column_scale, y, columns, acc.stride(0), 1024, triton.cdiv(columns, 1024))
