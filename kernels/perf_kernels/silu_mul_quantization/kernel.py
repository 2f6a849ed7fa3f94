"""How are the two halves of an MLP's input activated, multiplied and quantised in one pass over memory?

``y = round(silu(gate) up)`` with the arithmetic in fp32 and one rounding to the input's type, then row quantisation
(:mod:`perf_kernels.rows`). vLLM's unfused pair writes y in that type too, so nothing that its quantisation sees is lost
here; it also rounds silu(gate) before it multiplies, which is not repeated. Rounded products take half the registers of
fp32 ones, and a row of 18944 stays in them.
"""

from __future__ import annotations

import triton
import triton.language as tl

from perf_kernels.rows import largest_of, magnitude, scale_and_inverse, store_row, store_zeros, to_codes

_LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def _load(gate_row, up_row, column_stride, column, width, MASKED: tl.constexpr):
    """Load [TILE] columns of both halves; past the end of a row they are 0."""
    offset = column.to(tl.int64) * column_stride
    mask = column < width if MASKED else None
    other = 0.0 if MASKED else None
    return tl.load(gate_row + offset, mask=mask, other=other), tl.load(up_row + offset, mask=mask, other=other)


@triton.jit
def _product(gate, up):
    """Give silu(gate) up in the type of both; silu(-inf) is NaN, as in torch."""
    wide = gate.to(tl.float32)
    return (wide / (1.0 + tl.exp2(wide * -_LOG2_E)) * up.to(tl.float32)).to(gate.dtype)


@triton.jit
def _one_pass_kernel(
    x_ptr,
    q_ptr,
    scale_ptr,
    width,
    up_offset,
    x_row_stride,
    x_column_stride,
    q_row_stride,
    LARGEST: tl.constexpr,
    TILE: tl.constexpr,
    TILES: tl.constexpr,
    RAGGED: tl.constexpr,
):
    """Make one row a program, kept in registers as ``TILES`` tiles; the last is masked if ``RAGGED``."""
    input_type: tl.constexpr = x_ptr.dtype.element_ty
    row = tl.program_id(0).to(tl.int64)
    gate_row = x_ptr + row * x_row_stride
    up_row = gate_row + up_offset
    q_row = q_ptr + row * q_row_stride
    lane = tl.arange(0, TILE)

    # Every load is issued before the first value is used.
    halves = ()
    for i in tl.static_range(TILES):
        halves = halves + _load(gate_row, up_row, x_column_stride, i * TILE + lane, width, RAGGED and i == TILES - 1)

    products = (_product(halves[0], halves[1]),)
    top = magnitude(products[0])
    for i in tl.static_range(1, TILES):
        products = products + (_product(halves[2 * i], halves[2 * i + 1]),)
        top = tl.maximum(top, magnitude(products[i]))
    largest = largest_of(top, input_type)
    store_row(products, largest, q_row, scale_ptr, row, lane, width, LARGEST, TILE, TILES, RAGGED)


@triton.jit
def _two_pass_kernel(
    x_ptr,
    q_ptr,
    scale_ptr,
    width,
    up_offset,
    x_row_stride,
    x_column_stride,
    q_row_stride,
    LARGEST: tl.constexpr,
    TILE: tl.constexpr,
    TILES: tl.constexpr,
):
    """Make one row a program, read twice: for rows that do not fit in registers."""
    input_type: tl.constexpr = x_ptr.dtype.element_ty
    code_type: tl.constexpr = q_ptr.dtype.element_ty
    row = tl.program_id(0).to(tl.int64)
    gate_row = x_ptr + row * x_row_stride
    up_row = gate_row + up_offset
    q_row = q_ptr + row * q_row_stride
    lane = tl.arange(0, TILE)

    top = magnitude(tl.zeros([TILE], input_type))
    for i in range(TILES):
        gate, up = _load(gate_row, up_row, x_column_stride, i * TILE + lane, width, True)
        top = tl.maximum(top, magnitude(_product(gate, up)))
    largest = largest_of(top, input_type)

    if largest < float("inf"):
        scale, inverse, lack = scale_and_inverse(largest, LARGEST, code_type == tl.int8)
        tl.store(scale_ptr + row, scale)
        for i in range(TILES):
            column = i * TILE + lane
            gate, up = _load(gate_row, up_row, x_column_stride, column, width, True)
            tl.store(q_row + column, to_codes(_product(gate, up), inverse, lack, code_type), mask=column < width)
    else:
        store_zeros(largest, q_row, scale_ptr + row, lane, width, TILE, TILES)
