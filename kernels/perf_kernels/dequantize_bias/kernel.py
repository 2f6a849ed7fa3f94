"""How are the accumulators of a quantised matrix multiplication scaled back in one pass over memory?

``y[m, n] = fma(acc[m, n] s_a[m], s_b[n], bias[n])`` in fp32, and one rounding to the type of the result. The order
matters: s_a s_b alone can be below the smallest fp32 where the product of all three is not. Where the multiplication
has applied s_b, ``y[m, n] = fma(acc[m, n], s_a[m], bias[n])``. A tile's row and column numbers are 64 bits wide: a
prompt of 65536 tokens passes 2**31 elements at 37888 columns.

An element is read before it is written, and by no other program: ``y`` may be ``acc`` itself.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _kernel(
    acc_ptr,
    row_scale_ptr,
    column_scale_ptr,
    bias_ptr,
    y_ptr,
    rows,
    columns,
    column_blocks,
    acc_row_stride,
    acc_column_stride,
    y_row_stride,
    HAS_COLUMN_SCALE: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    GROUP: tl.constexpr,
):
    """Make one tile a program; tiles follow each other along the rows, or down GROUP tiles and then along the rows."""
    tile = tl.program_id(0)
    if GROUP == 1:
        row_block = tile // column_blocks
        column_block = tile % column_blocks
    else:
        # As Triton's tutorial on matrix multiplication orders its tiles.
        group = tile // (GROUP * column_blocks)
        height = tl.minimum(tl.cdiv(rows, BLOCK_ROWS) - group * GROUP, GROUP)
        row_block = group * GROUP + tile % (GROUP * column_blocks) % height
        column_block = tile % (GROUP * column_blocks) // height
    row = row_block.to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    column = column_block.to(tl.int64) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    # A thread takes 16 bytes of accumulators: 4 columns, or 8 of bf16. If it wrote 16 bytes of bf16 for accumulators of
    # 4 bytes, or read them for fp32 results, threads would have to trade.
    NARROW: tl.constexpr = (
        acc_ptr.dtype.element_ty.primitive_bitwidth == 16 and y_ptr.dtype.element_ty.primitive_bitwidth == 16
    )
    column = tl.max_contiguous(column, 8 if NARROW else 4)
    inside = (row < rows)[:, None] & (column < columns)[None, :]
    acc_pointers = acc_ptr + row[:, None] * acc_row_stride + column[None, :] * acc_column_stride
    acc = tl.load(acc_pointers, mask=inside, other=0)
    row_scale = tl.load(row_scale_ptr + row, mask=row < rows, other=0.0)
    if HAS_COLUMN_SCALE:
        column_scale = tl.load(column_scale_ptr + column, mask=column < columns, other=0.0)
        scaled = acc.to(tl.float32) * row_scale[:, None]
        factor = tl.broadcast_to(column_scale[None, :], [BLOCK_ROWS, BLOCK_COLUMNS])
    else:
        scaled = acc.to(tl.float32)
        factor = tl.broadcast_to(row_scale[:, None], [BLOCK_ROWS, BLOCK_COLUMNS])
    if HAS_BIAS:
        bias = tl.load(bias_ptr + column, mask=column < columns, other=0.0).to(tl.float32)
        y = tl.fma(scaled, factor, tl.broadcast_to(bias[None, :], [BLOCK_ROWS, BLOCK_COLUMNS]))
    else:
        y = scaled * factor
    tl.store(y_ptr + row[:, None] * y_row_stride + column[None, :], y.to(y_ptr.dtype.element_ty), mask=inside)
