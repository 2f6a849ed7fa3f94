"""How does a program turn a row of values into codes and a scale? What kernels that quantise rows inline into theirs.

``a = max |x|``, ``s = max(a / Q, 2**-126)``, ``q = round_half_even(x / s)`` with Q = 127 (INT8) or 448 (FP8 e4m3).

The figures an element costs decide whether such a kernel is bound by memory or by the instructions it issues:

- The largest magnitude is a maximum over bit patterns without their sign, as integers. NaN sorts above infinity, so it
  propagates, and two 16-bit patterns share one instruction on sm_90.
- INT8 from bf16: ``fma(x, 1 / s, 12582912)`` rounds to nearest even; the low byte of the sum's bits is the code. No
  clamp is needed: ``|x| / s <= Q`` before rounding.
- Otherwise two terms of 1 / s give x / s to the last bit of an fp32, so that its ties are ties, and that is rounded.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

#: Q, the largest code of each output type.
LARGEST_CODE = {torch.int8: 127.0, torch.float8_e4m3fn: 448.0}
#: S_MIN, the smallest normal fp32: its inverse is finite, and a row that small keeps its values to half of it.
SMALLEST_SCALE = 2.0**-126

_SMALLEST_SCALE = tl.constexpr(SMALLEST_SCALE)
#: 1.5 * 2**23: floats of this size are spaced by 1, so adding it rounds to an integer, to nearest even.
_ROUNDER = tl.constexpr(12582912.0)


@triton.jit
def magnitude(x):
    """Give the bits of |x| as an integer of x's width: they sort as the magnitudes do, NaN above infinity."""
    if x.dtype.primitive_bitwidth == 16:
        return x.to(tl.int16, bitcast=True) & 0x7FFF
    else:
        return x.to(tl.int32, bitcast=True) & 0x7FFFFFFF


@triton.jit
def largest_of(magnitudes, dtype: tl.constexpr):
    """Give the largest of [TILE] magnitudes of ``dtype`` values, as fp32."""
    return tl.max(magnitudes, axis=0).to(magnitudes.dtype).to(dtype, bitcast=True).to(tl.float32)


@triton.jit
def scale_and_inverse(largest, LARGEST: tl.constexpr, INTEGER: tl.constexpr):
    """Give s, 1 / s and what 1 / s lacks of LARGEST / largest, for a row whose largest magnitude is finite.

    For integers 1 / s is never too small: in bf16 one element in a thousand is exactly half the largest, the tie 63.5,
    which an inverse below the true one would take to 63, and any other takes to 64, the even neighbour. (All other ties
    of bf16 are in rows whose scale is a power of two, which is exact.) For floats 1 / s is never too large: what it
    lacks is then positive or 0, and a product with it keeps the sign of a zero.
    """
    largest = tl.maximum(largest, LARGEST * _SMALLEST_SCALE)
    # A quotient by a constant, correctly rounded: the residual of the first guess is exact.
    scale = largest * (1.0 / LARGEST)
    scale = tl.fma(tl.fma(scale, -LARGEST, largest), 1.0 / LARGEST, scale)
    # One Newton step: hardware division is good to two units in the last place, and differs between vendors.
    inverse = 1.0 / scale
    inverse = tl.fma(tl.fma(inverse, -largest, LARGEST) * (1.0 / LARGEST), inverse, inverse)
    lack = tl.fma(inverse, -largest, LARGEST)
    step = tl.where(lack > 0.0, 1, 0) if INTEGER else tl.where(lack < 0.0, -1, 0)
    inverse = (inverse.to(tl.int32, bitcast=True) + step).to(tl.float32, bitcast=True)
    lack = tl.fma(inverse, -largest, LARGEST) * (1.0 / LARGEST) * inverse
    return scale, inverse, lack


@triton.jit
def to_codes(x, inverse, lack, dtype: tl.constexpr):
    """Give round(x / s) in the output type."""
    if dtype == tl.int8 and x.dtype == tl.bfloat16:
        return tl.fma(x.to(tl.float32), inverse, _ROUNDER).to(tl.int32, bitcast=True).to(tl.int8)
    x = x.to(tl.float32)
    quotient = tl.fma(x, inverse, x * lack)
    if dtype == tl.int8:
        return (quotient + _ROUNDER).to(tl.int32, bitcast=True).to(tl.int8)
    else:
        return quotient.to(dtype)


@triton.jit
def store_row(
    parts,
    largest,
    q_row,
    scale_ptr,
    row,
    lane,
    width,
    LARGEST: tl.constexpr,
    TILE: tl.constexpr,
    TILES: tl.constexpr,
    RAGGED: tl.constexpr,
):
    """Store the codes and the scale of a row that a program holds; codes 0 where the row is not finite.

    Args:
        parts: the row as TILES tensors [TILE].
        largest: its largest magnitude, fp32.
        q_row: pointer to the row's first code.
        scale_ptr: pointer to the first row's scale.
        row: number of the row.
        lane: [TILE] numbers from 0.
        width: columns of the row.
        LARGEST: Q.
        TILE: columns of a tile.
        TILES: tiles.
        RAGGED: whether the last tile reaches past the row's end.
    """
    code_type: tl.constexpr = q_row.dtype.element_ty
    if largest < float("inf"):
        scale, inverse, lack = scale_and_inverse(largest, LARGEST, code_type == tl.int8)
        tl.store(scale_ptr + row, scale)
        for i in tl.static_range(TILES):
            column = i * TILE + lane
            codes = to_codes(parts[i], inverse, lack, code_type)
            if RAGGED and i == TILES - 1:
                tl.store(q_row + column, codes, mask=column < width)
            else:
                tl.store(q_row + column, codes)
    else:
        tl.store(scale_ptr + row, largest)
        for i in tl.static_range(TILES):
            column = i * TILE + lane
            tl.store(q_row + column, tl.zeros([TILE], tl.float32).to(code_type), mask=column < width)


@triton.jit
def store_zeros(largest, q_row, scale_at, lane, width, TILE: tl.constexpr, TILES: tl.constexpr):
    """Store codes 0 and ``largest``, which is not finite, as the scale: of a row that no program holds as a whole."""
    tl.store(scale_at, largest)
    for i in range(TILES):
        column = i * TILE + lane
        tl.store(q_row + column, tl.zeros([TILE], tl.float32).to(q_row.dtype.element_ty), mask=column < width)
