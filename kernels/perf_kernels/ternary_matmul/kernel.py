"""How are int8 activations multiplied by weights of 2 bits, exactly, without unpacking them in memory?

What a batch of tokens takes; a single one has a kernel of its own, in :mod:`~perf_kernels.ternary_matmul.token_kernel`.

- A field of the packed bytes (see :mod:`~perf_kernels.ternary_matmul.reference` for the layout) is masked, not shifted:
  one instruction gives four int8 operands of the tensor cores. Their int32 sums are exact; each field's is a multiple
  of 4**field, shifted at the end.
- The lower fields hold w + 1. What that adds to every output of a token, the sum of its codes there, is taken off.
- The slices of a row are the batch of a batched product: the warps of a program share the row, and their sums meet in
  shared memory. No atomics, and integers do not mind the order.
- ``fma(x, s, 12582912)`` rounds x s to nearest even, without a rounding of the product before; the low byte of its bits
  is the code. No clip is needed: ``|x| s <= 127`` up to one rounding.
"""

from __future__ import annotations

import triton
import triton.language as tl

from perf_kernels.ternary_matmul.reference import BLOCK_BYTES, BLOCK_COLUMNS, SMALLEST

_SMALLEST = tl.constexpr(SMALLEST)
_COLUMNS = tl.constexpr(BLOCK_COLUMNS)
_BYTES = tl.constexpr(BLOCK_BYTES)
#: 1.5 * 2**23: floats of this size are spaced by 1, so adding it rounds to an integer, to nearest even.
_ROUNDER = tl.constexpr(12582912.0)
_ROUNDER_BITS = tl.constexpr(0x4B400000)


@triton.jit
def _magnitude(x):
    """Give the bits of |x| as an integer of x's width: they sort as the magnitudes do, NaN above infinity."""
    if x.dtype.primitive_bitwidth == 16:
        return x.to(tl.int16, bitcast=True) & 0x7FFF
    else:
        return x.to(tl.int32, bitcast=True) & 0x7FFFFFFF


@triton.jit
def _scales(top, gamma, dtype: tl.constexpr):
    """Give s and gamma / s for the largest :func:`_magnitude` of a token; gamma / s is NaN if that is not finite."""
    bits: tl.constexpr = tl.int16 if dtype.primitive_bitwidth == 16 else tl.int32
    largest = top.to(bits).to(dtype, bitcast=True).to(tl.float32)
    scale = tl.div_rn(127.0, tl.maximum(largest, _SMALLEST))
    return scale, tl.where(largest < float("inf"), tl.div_rn(gamma, scale), float("nan"))


@triton.jit
def _codes(x, scale, column):
    """Give round(x s) as int8, and the sum of those that meet the lower three fields, as int32."""
    bits = tl.fma(x.to(tl.float32), scale, _ROUNDER).to(tl.int32, bitcast=True)
    excess = tl.where(column % _COLUMNS < 3 * _BYTES, bits - _ROUNDER_BITS, 0)
    return bits.to(tl.int8), tl.sum(excess, axis=0)


@triton.jit
def _field(packed, FIELD: tl.constexpr):
    """Give one field of packed bytes as int8: (w + 1) 4**FIELD, or 64 w for the highest."""
    if FIELD == 3:
        return packed & -64
    else:
        return packed & (3 << 2 * FIELD)


@triton.jit
def _finish(sums, factor, bias_ptr, output, inside, dtype: tl.constexpr):
    """Give what is stored for ``sums``: themselves for int32 (0 for a token that is not finite), else y."""
    if dtype == tl.int32:
        return tl.where(factor == factor, sums, 0)
    else:
        y = sums.to(tl.float32)
        if bias_ptr is None:
            y = y * factor
        else:
            y = tl.fma(y, factor, tl.load(bias_ptr + output, mask=inside, other=0.0).to(tl.float32))
        return y.to(dtype)


@triton.jit
def _quantize_kernel(
    x_ptr,
    gamma_ptr,
    q_ptr,
    factor_ptr,
    excess_ptr,
    width,
    q_width,
    x_row_stride,
    x_column_stride,
    TILE: tl.constexpr,
    TILES: tl.constexpr,
):
    """Quantise one token a program, padded with zeros to ``q_width``.

    Stores gamma / s, and what the lower three fields of packed weights add to each sum: the codes' own sum there.
    """
    input_type: tl.constexpr = x_ptr.dtype.element_ty
    row = tl.program_id(0).to(tl.int64)
    x_row = x_ptr + row * x_row_stride
    q_row = q_ptr + row * q_width
    lane = tl.arange(0, TILE)
    gamma = tl.load(gamma_ptr)
    if TILES == 1:
        x = tl.load(x_row + lane.to(tl.int64) * x_column_stride, mask=lane < width, other=0.0)
        scale, factor = _scales(tl.max(_magnitude(x), axis=0), gamma, input_type)
        codes, excess = _codes(x, scale, lane)
        tl.store(q_row + lane, codes, mask=lane < q_width)
    else:
        top = _magnitude(tl.zeros([TILE], input_type))
        for i in range(TILES):
            at = i * TILE + lane
            x = tl.load(x_row + at.to(tl.int64) * x_column_stride, mask=at < width, other=0.0)
            top = tl.maximum(top, _magnitude(x))
        scale, factor = _scales(tl.max(top, axis=0), gamma, input_type)
        excess = 0
        for i in range(TILES):
            at = i * TILE + lane
            x = tl.load(x_row + at.to(tl.int64) * x_column_stride, mask=at < width, other=0.0)
            codes, more = _codes(x, scale, at)
            tl.store(q_row + at, codes, mask=at < q_width)
            excess += more
    tl.store(factor_ptr + row, factor)
    tl.store(excess_ptr + row, excess)


@triton.jit
def _batch_kernel(
    q_ptr,
    factor_ptr,
    excess_ptr,
    packed_ptr,
    bias_ptr,
    y_ptr,
    tokens,
    outputs,
    blocks,
    TOKENS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    SLICES: tl.constexpr,
    TILES: tl.constexpr,
):
    """Give ``OUTPUTS`` outputs of ``TOKENS`` quantised tokens a program; programs of the same tokens are neighbours."""
    across = tl.cdiv(outputs, OUTPUTS)
    program = tl.program_id(0)
    output = (program % across).to(tl.int64) * OUTPUTS + tl.arange(0, OUTPUTS)
    token = (program // across).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    inside = output < outputs
    wanted = token < tokens
    width = tl.cast(blocks, tl.int64) * _COLUMNS
    slice_ = tl.arange(0, SLICES)[:, None, None]
    byte = tl.arange(0, _BYTES)
    weights = (
        packed_ptr
        + output[None, :, None] * (tl.cast(blocks, tl.int64) * _BYTES)
        + slice_ * _BYTES
        + byte[None, None, :]
    )
    codes = q_ptr + token[None, None, :] * width + slice_ * _COLUMNS + byte[None, :, None]

    sums0 = tl.zeros([SLICES, OUTPUTS, TOKENS], tl.int32)
    sums1 = tl.zeros([SLICES, OUTPUTS, TOKENS], tl.int32)
    sums2 = tl.zeros([SLICES, OUTPUTS, TOKENS], tl.int32)
    sums3 = tl.zeros([SLICES, OUTPUTS, TOKENS], tl.int32)
    for i in range(TILES):
        here = i * SLICES + slice_ < blocks
        packed = tl.load(weights, mask=inside[None, :, None] & here, other=0).to(tl.int8, bitcast=True)
        mask = wanted[None, None, :] & here
        sums0 = tl.dot(_field(packed, 0), tl.load(codes, mask=mask, other=0), sums0, out_dtype=tl.int32)
        sums1 = tl.dot(_field(packed, 1), tl.load(codes + _BYTES, mask=mask, other=0), sums1, out_dtype=tl.int32)
        sums2 = tl.dot(_field(packed, 2), tl.load(codes + 2 * _BYTES, mask=mask, other=0), sums2, out_dtype=tl.int32)
        sums3 = tl.dot(_field(packed, 3), tl.load(codes + 3 * _BYTES, mask=mask, other=0), sums3, out_dtype=tl.int32)
        weights += SLICES * _BYTES
        codes += SLICES * _COLUMNS

    total = tl.sum(sums0 + (sums1 >> 2) + (sums2 >> 4) + (sums3 >> 6), axis=0)
    total -= tl.load(excess_ptr + token, mask=wanted, other=0)[None, :]
    factor = tl.load(factor_ptr + token, mask=wanted, other=0.0)[None, :]
    y = _finish(total, factor, bias_ptr, output[:, None], inside[:, None], y_ptr.dtype.element_ty)
    tl.store(y_ptr + token[None, :] * outputs + output[:, None], y, mask=inside[:, None] & wanted[None, :])
