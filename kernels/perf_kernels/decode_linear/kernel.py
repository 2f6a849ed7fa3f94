"""How do a few tokens meet the weights of a linear layer, each weight read once, in 16, 8 or 4 bits?

- One token: weights come to registers, are converted to fp32 there, and each thread sums up what it holds of a row.
  Programs of one warp: none waits for another, and what is on its way from memory is limited by registers alone.
- The factor of an RMS norm leaves the sum: ``sum w (x g r) = r sum w (x g)``. It is found beside the sum, and no
  launch of its own has to run before.
- 4 bits: ``word & 15 << 4 j | bits of 2**23`` is the float ``2**23 + q 16**j``: no shift, and no conversion of an
  integer, which takes twice as long. What zero points add to a sum, their scale times the sum of x, is taken off.
- More tokens: tensor cores, with weights as the left operand, because its 16 rows are then all in use.
"""

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
#: 2**23, and its bits.
_UNIT = tl.constexpr(8388608.0)
_UNIT_BITS = tl.constexpr(0x4B000000)
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
def _normed(x_ptr, norm_ptr, column, inside):
    """Give x, times the weights of the norm if there is one, and x as it is, fp32; 0 outside."""
    x = tl.load(x_ptr + column, mask=inside, other=0.0).to(tl.float32)
    if norm_ptr is None:
        return x, x
    else:
        return x * tl.load(norm_ptr + column, mask=inside, other=0.0).to(tl.float32), x


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
def _nibble(word, NIBBLE: tl.constexpr):
    """Give a nibble of each word as fp32, divided by :func:`_power`."""
    if NIBBLE < 5:  # noqa: SIM108 - a branch on a constant compiles one side
        bits = word & (15 << 4 * NIBBLE)
    else:
        bits = (word >> 12) & (15 << 4 * (NIBBLE - 3))
    return (bits | _UNIT_BITS).to(tl.float32, bitcast=True) - _UNIT


@triton.jit
def _power(NIBBLE: tl.constexpr):
    """Give 16**-k where :func:`_nibble` finds a nibble in place k."""
    k: tl.constexpr = NIBBLE if NIBBLE < 5 else NIBBLE - 3
    return 1.0 / (1 << 4 * k)


@triton.jit
def _group_scale(packed):
    """Give the scale and the zero point of a group, fp32."""
    scale = (packed & 0xFFFF).to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
    return scale, (packed >> 16).to(tl.float32)


@triton.jit
def _pieces(products, PIECE: tl.constexpr):
    """Sum up what one thread holds of a row, ``PIECE`` neighbours: no thread waits for another."""
    rows: tl.constexpr = products.shape[0]
    return tl.sum(tl.reshape(products, [rows, products.shape[1] // PIECE, PIECE]), axis=2)


@triton.jit
def _token_kernel(
    x_ptr,
    weight_ptr,
    scale_ptr,
    norm_ptr,
    residual_ptr,
    y_ptr,
    outputs,
    width,
    stride,
    epsilon,
    FORMAT: tl.constexpr,
    GROUP: tl.constexpr,
    CODES: tl.constexpr,
    GATED: tl.constexpr,
    ROWS: tl.constexpr,
    TILE: tl.constexpr,
    TILES: tl.constexpr,
    PIECE: tl.constexpr,
):
    """Give ``ROWS`` outputs of one token a program.

    ``TILE`` weights of a row, or words of eight, are loaded at a time, ``stride`` in all. ``GATED``: silu of an output
    times the one ``outputs`` rows further on.
    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = row < outputs
    weights = weight_ptr + row[:, None] * stride
    up_weights = weights + tl.cast(outputs, tl.int64) * stride

    scale = 1.0
    if CODES != _AS_THEY_ARE:
        top = tl.zeros([TILE], tl.float32)
        for i in range(tl.cdiv(width, TILE)):
            column = i * TILE + tl.arange(0, TILE)
            x, _ = _normed(x_ptr, norm_ptr, column, column < width)
            top = tl.maximum(top, tl.abs(x))
        scale = _code_scale(tl.max(top, axis=0), CODES)

    sums = tl.zeros([ROWS, TILE // PIECE], tl.float32)
    up_sums = tl.zeros([ROWS, TILE // PIECE], tl.float32)
    squares = tl.zeros([TILE], tl.float32)
    for i in range(TILES):
        at = i * TILE + tl.arange(0, TILE)
        here = at < stride
        mask = inside[:, None] & here[None, :]
        w = tl.load(weights + at[None, :], mask=mask, other=0.0, eviction_policy="evict_first")
        if GATED:
            up = tl.load(up_weights + at[None, :], mask=mask, other=0.0, eviction_policy="evict_first")
        if FORMAT == _PACKED:
            groups = stride // (GROUP // 8)
            first = (i * (TILE // PIECE) + tl.arange(0, TILE // PIECE)) * PIECE
            group = row[:, None] * groups + (first // (GROUP // 8))[None, :]
            known = inside[:, None] & (first < stride)[None, :]
            s, zero = _group_scale(tl.load(scale_ptr + group, mask=known, other=0))
            products = tl.zeros([ROWS, TILE], tl.float32)
            total = tl.zeros([TILE], tl.float32)
            if GATED:
                up_group = group + tl.cast(outputs, tl.int64) * groups
                up_s, up_zero = _group_scale(tl.load(scale_ptr + up_group, mask=known, other=0))
                up_products = tl.zeros([ROWS, TILE], tl.float32)
            for nibble in tl.static_range(8):
                x, plain = _normed(x_ptr, norm_ptr, _column(at, nibble, GROUP, FORMAT), here)
                squares += plain * plain
                x = _coded(x, scale, CODES)
                total += x
                x = x * _power(nibble)
                products += _nibble(w, nibble) * x[None, :]
                if GATED:
                    up_products += _nibble(up, nibble) * x[None, :]
            offset = _pieces(total[None, :], PIECE)
            sums += s * (_pieces(products, PIECE) - zero * offset)
            if GATED:
                up_sums += up_s * (_pieces(up_products, PIECE) - up_zero * offset)
        else:
            x, plain = _normed(x_ptr, norm_ptr, at, here)
            squares += plain * plain
            x = _coded(x, scale, CODES)
            sums += _pieces(w.to(tl.float32) * x[None, :], PIECE)
            if GATED:
                up_sums += _pieces(up.to(tl.float32) * x[None, :], PIECE)

    factor = tl.full([], 1.0, tl.float32)
    if norm_ptr is not None:
        factor = tl.rsqrt(tl.sum(squares, axis=0) / width + epsilon)
    if CODES != _AS_THEY_ARE:
        factor = factor / scale
    y = tl.sum(sums, axis=1) * factor
    if FORMAT == _SCALED:
        y *= tl.load(scale_ptr + row, mask=inside, other=0.0)
    if GATED:
        u = tl.sum(up_sums, axis=1) * factor
        if FORMAT == _SCALED:
            u *= tl.load(scale_ptr + outputs + row, mask=inside, other=0.0)
        y = y * tl.sigmoid(y) * u
    if residual_ptr is not None:
        y += tl.load(residual_ptr + row, mask=inside, other=0.0).to(tl.float32)
    tl.store(y_ptr + row, y.to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _factors(
    x_rows,
    norm_ptr,
    wanted,
    width,
    epsilon,
    CODES: tl.constexpr,
    TOKENS: tl.constexpr,
    TILE: tl.constexpr,
):
    """Give for each token what the norm multiplies it with, and what makes codes of that."""
    squares = tl.zeros([TOKENS, TILE], tl.float32)
    top = tl.zeros([TOKENS, TILE], tl.float32)
    for i in range(tl.cdiv(width, TILE)):
        column = (i * TILE + tl.arange(0, TILE))[None, :]
        inside = wanted[:, None] & (column < width)
        x = tl.load(x_rows[:, None] + column, mask=inside, other=0.0).to(tl.float32)
        squares += x * x
        if norm_ptr is not None:
            x *= tl.load(norm_ptr + column, mask=column < width, other=0.0).to(tl.float32)
        top = tl.maximum(top, tl.abs(x))
    norm = tl.full([TOKENS], 1.0, tl.float32)
    if norm_ptr is not None:
        norm = tl.rsqrt(tl.sum(squares, axis=1) / width + epsilon)
    scale = tl.full([TOKENS], 1.0, tl.float32)
    if CODES != _AS_THEY_ARE:
        scale = _code_scale(tl.max(top, axis=1), CODES)
    return norm, scale


@triton.jit
def _operand(x_rows, norm_ptr, column, here, wanted, norm, scale, CODES: tl.constexpr):
    """Give activations [columns, tokens], normed and rounded, in the type of x."""
    x = tl.load(x_rows[None, :] + column[:, None], mask=here[:, None] & wanted[None, :], other=0.0)
    dtype: tl.constexpr = x.dtype
    if norm_ptr is not None:
        g = tl.load(norm_ptr + column, mask=here, other=0.0).to(tl.float32)
        # Codes are made of x g: the factor of the norm is in their scale.
        x = x.to(tl.float32) * g[:, None]
        if CODES == _AS_THEY_ARE:
            x = x * norm[None, :]
    return _coded(x.to(tl.float32), scale[None, :], CODES).to(dtype)


@triton.jit
def _as(weights, dtype: tl.constexpr):
    """Give weights as the type of x. Codes by way of fp32, as a GPU does: the interpreter has no other way to bf16."""
    if weights.dtype == dtype:
        return weights
    else:
        return weights.to(tl.float32).to(dtype)


@triton.jit
def _unpacked(words, s, zero, NIBBLE: tl.constexpr):
    """Give the weights in one nibble of each word, fp32."""
    return s * (((words >> 4 * NIBBLE) & 15).to(tl.float32) - zero)


@triton.jit
def _batch_kernel(
    x_ptr,
    weight_ptr,
    scale_ptr,
    norm_ptr,
    residual_ptr,
    y_ptr,
    tokens,
    outputs,
    width,
    stride,
    epsilon,
    FORMAT: tl.constexpr,
    GROUP: tl.constexpr,
    CODES: tl.constexpr,
    GATED: tl.constexpr,
    TOKENS: tl.constexpr,
    ROWS: tl.constexpr,
    TILE: tl.constexpr,
    TILES: tl.constexpr,
):
    """Give ``ROWS`` outputs of all tokens a program; otherwise as :func:`_token_kernel`."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = row < outputs
    token = tl.arange(0, TOKENS)
    wanted = token < tokens
    x_rows = x_ptr + token.to(tl.int64) * width
    weights = weight_ptr + row[:, None] * stride
    up_weights = weights + tl.cast(outputs, tl.int64) * stride
    norm = tl.full([TOKENS], 1.0, tl.float32)
    scale = tl.full([TOKENS], 1.0, tl.float32)
    if norm_ptr is not None or CODES != _AS_THEY_ARE:
        norm, scale = _factors(x_rows, norm_ptr, wanted, width, epsilon, CODES, TOKENS, TILE)

    sums = tl.zeros([ROWS, TOKENS], tl.float32)
    up_sums = tl.zeros([ROWS, TOKENS], tl.float32)
    for i in range(TILES):
        at = i * TILE + tl.arange(0, TILE)
        here = at < stride
        mask = inside[:, None] & here[None, :]
        w = tl.load(weights + at[None, :], mask=mask, other=0.0)
        if GATED:
            up = tl.load(up_weights + at[None, :], mask=mask, other=0.0)
        if FORMAT == _PACKED:
            groups = stride // (GROUP // 8)
            group = row[:, None] * groups + (at // (GROUP // 8))[None, :]
            s, zero = _group_scale(tl.load(scale_ptr + group, mask=mask, other=0))
            if GATED:
                up_group = group + tl.cast(outputs, tl.int64) * groups
                up_s, up_zero = _group_scale(tl.load(scale_ptr + up_group, mask=mask, other=0))
            for nibble in tl.static_range(8):
                x = _operand(x_rows, norm_ptr, _column(at, nibble, GROUP, FORMAT), here, wanted, norm, scale, CODES)
                sums = tl.dot(_unpacked(w, s, zero, nibble).to(x.dtype), x, sums, input_precision="ieee")
                if GATED:
                    up_sums = tl.dot(
                        _unpacked(up, up_s, up_zero, nibble).to(x.dtype), x, up_sums, input_precision="ieee"
                    )
        else:
            x = _operand(x_rows, norm_ptr, at, here, wanted, norm, scale, CODES)
            sums = tl.dot(_as(w, x.dtype), x, sums, input_precision="ieee")
            if GATED:
                up_sums = tl.dot(_as(up, x.dtype), x, up_sums, input_precision="ieee")

    y, u = sums, up_sums
    if CODES != _AS_THEY_ARE:
        y, u = y * (norm / scale)[None, :], u * (norm / scale)[None, :]
    if FORMAT == _SCALED:
        y *= tl.load(scale_ptr + row, mask=inside, other=0.0)[:, None]
    if GATED:
        if FORMAT == _SCALED:
            u *= tl.load(scale_ptr + outputs + row, mask=inside, other=0.0)[:, None]
        y = y * tl.sigmoid(y) * u
    place = token[None, :] * tl.cast(outputs, tl.int64) + row[:, None]
    stored = wanted[None, :] & inside[:, None]
    if residual_ptr is not None:
        y += tl.load(residual_ptr + place, mask=stored, other=0.0).to(tl.float32)
    tl.store(y_ptr + place, y.to(y_ptr.dtype.element_ty), mask=stored)
