"""How are weights and activations stored, and what is read or rounded alike for one token and for several?"""

from __future__ import annotations

import triton
import triton.language as tl

#: How weights are stored: as numbers; with one scale a row; eight to an int32, with a scale for each group.
DENSE, SCALED, PACKED = 0, 1, 2
#: How the activations of a token are rounded before the product.
AS_THEY_ARE, TO_INT8, TO_FP8 = 0, 1, 2

_SCALED, _PACKED = tl.constexpr(SCALED), tl.constexpr(PACKED)
_AS_THEY_ARE, _TO_INT8 = tl.constexpr(AS_THEY_ARE), tl.constexpr(TO_INT8)
#: 1.5 * 2**23: floats of this size are spaced by 1, so adding it rounds to an integer, to nearest even.
_ROUNDER = tl.constexpr(12582912.0)
#: Smallest largest magnitude of a token that a scale is made of.
SMALLEST = 1e-12
_SMALLEST = tl.constexpr(SMALLEST)


@triton.jit
def _column(at, NIBBLE: tl.constexpr, GROUP: tl.constexpr, FORMAT: tl.constexpr):
    """Give the columns of x that nibble ``NIBBLE`` of the words ``at`` meets, or that the weights ``at`` meet."""
    if FORMAT == _PACKED:
        return at // (GROUP // 8) * GROUP + NIBBLE * (GROUP // 8) + at % (GROUP // 8)
    else:
        return at


@triton.jit
def _code_scale(largest, CODES: tl.constexpr):
    """Give what x is multiplied with to become a code, for the largest magnitude of a token."""
    if CODES == _TO_INT8:
        return tl.div_rn(127.0, tl.maximum(largest, _SMALLEST))
    else:
        return tl.div_rn(448.0, tl.maximum(largest, _SMALLEST))


@triton.jit
def _coded(x, scale, CODES: tl.constexpr):
    """Round x to a code if it is to be, and give the code's value as fp32."""
    if CODES == _AS_THEY_ARE:
        return x
    elif CODES == _TO_INT8:
        return tl.fma(x, scale, _ROUNDER) - _ROUNDER
    else:
        return (x * scale).to(tl.float8e4nv).to(tl.float32)


@triton.jit
def _group_scale(packed):
    """Give the scale and the zero point of a group, fp32."""
    scale = (packed & 0xFFFF).to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
    return scale, (packed >> 16).to(tl.float32)
