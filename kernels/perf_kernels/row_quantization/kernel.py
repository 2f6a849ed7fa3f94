"""How does one pass over memory quantise the rows of a matrix on a GPU?

What is computed of a row, and why so, is said in :mod:`perf_kernels.rows`. Row offsets are 64 bits wide:
``row * stride`` passes 2**31 at a prompt of 65536 tokens.
"""

from __future__ import annotations

import triton
import triton.language as tl

from perf_kernels.rows import largest_of, magnitude, scale_and_inverse, store_row, store_zeros, to_codes


@triton.jit
def _one_pass_kernel(
    x_ptr,
    q_ptr,
    scale_ptr,
    width,
    x_row_stride,
    x_column_stride,
    q_row_stride,
    LARGEST: tl.constexpr,
    TILE: tl.constexpr,
    TILES: tl.constexpr,
    RAGGED: tl.constexpr,
):
    """Quantise one row a program, kept in registers as ``TILES`` tiles; the last is masked if ``RAGGED``."""
    input_type: tl.constexpr = x_ptr.dtype.element_ty
    row = tl.program_id(0).to(tl.int64)
    x_row = x_ptr + row * x_row_stride
    q_row = q_ptr + row * q_row_stride
    lane = tl.arange(0, TILE)

    # Every load is issued before the first value is used.
    parts = ()
    for i in tl.static_range(TILES):
        column = i * TILE + lane
        pointers = x_row + column.to(tl.int64) * x_column_stride
        if RAGGED and i == TILES - 1:
            parts = parts + (tl.load(pointers, mask=column < width, other=0.0),)
        else:
            parts = parts + (tl.load(pointers),)

    top = magnitude(parts[0])
    for i in tl.static_range(1, TILES):
        top = tl.maximum(top, magnitude(parts[i]))
    largest = largest_of(top, input_type)
    store_row(parts, largest, q_row, scale_ptr, row, lane, width, LARGEST, TILE, TILES, RAGGED)


@triton.jit
def _two_pass_kernel(
    x_ptr,
    q_ptr,
    scale_ptr,
    width,
    x_row_stride,
    x_column_stride,
    q_row_stride,
    LARGEST: tl.constexpr,
    TILE: tl.constexpr,
    TILES: tl.constexpr,
):
    """Quantise one row a program, read twice: for rows that do not fit in registers."""
    input_type: tl.constexpr = x_ptr.dtype.element_ty
    code_type: tl.constexpr = q_ptr.dtype.element_ty
    row = tl.program_id(0).to(tl.int64)
    x_row = x_ptr + row * x_row_stride
    q_row = q_ptr + row * q_row_stride
    lane = tl.arange(0, TILE)

    top = magnitude(tl.zeros([TILE], input_type))
    for i in range(TILES):
        column = i * TILE + lane
        x = tl.load(x_row + column.to(tl.int64) * x_column_stride, mask=column < width, other=0.0)
        top = tl.maximum(top, magnitude(x))
    largest = largest_of(top, input_type)

    if largest < float("inf"):
        scale, inverse, lack = scale_and_inverse(largest, LARGEST, code_type == tl.int8)
        tl.store(scale_ptr + row, scale)
        for i in range(TILES):
            column = i * TILE + lane
            x = tl.load(x_row + column.to(tl.int64) * x_column_stride, mask=column < width, other=0.0)
            tl.store(q_row + column, to_codes(x, inverse, lack, code_type), mask=column < width)
    else:
        store_zeros(largest, q_row, scale_ptr + row, lane, width, TILE, TILES)
