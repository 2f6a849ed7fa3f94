"""How does one token meet the weights of a linear layer, each weight read once, in 16, 8 or 4 bits?

- Weights come to registers, are converted to fp32 there, and each thread sums up what it holds of a row. Programs of
  one warp: none waits for another, and what is on its way from memory is limited by registers alone.
- The factor of an RMS norm leaves the sum: ``sum w (x g r) = r sum w (x g)``. It is found beside the sum, and no
  launch of its own has to run before.
- 4 bits: ``word & 15 << 4 j | bits of 2**23`` is the float ``2**23 + q 16**j``: no shift, and no conversion of an
  integer, which takes twice as long. What zero points add to a sum, their scale times the sum of x, is taken off.
"""

from __future__ import annotations

import triton
import triton.language as tl

from perf_kernels.decode_linear.formats import (
    _AS_THEY_ARE,
    _PACKED,
    _SCALED,
    _code_scale,
    _coded,
    _column,
    _group_scale,
)

#: 2**23, and its bits.
_UNIT = tl.constexpr(8388608.0)
_UNIT_BITS = tl.constexpr(0x4B000000)


@triton.jit
def _normed(x_ptr, norm_ptr, column, inside):
    """Give x, times the weights of the norm if there is one, and x as it is, fp32; 0 outside."""
    x = tl.load(x_ptr + column, mask=inside, other=0.0).to(tl.float32)
    if norm_ptr is None:
        return x, x
    else:
        return x * tl.load(norm_ptr + column, mask=inside, other=0.0).to(tl.float32), x


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
