"""How does one token meet the weights of a linear layer, each weight read once, in 16, 8 or 4 bits?

- Weights come to registers, and each thread sums up in fp32 what it holds of a row. Programs of one warp: none waits
  for another, and what is on its way from memory is limited by registers alone.
- The factor of an RMS norm leaves the sum: ``sum w (x g r) = r sum w (x g)``. It is found beside the sum, and no
  launch of its own has to run before.
- With 8 and 4 bits instructions limit, not bytes, so few are spent on a weight. A code among the lower 24 bits of a
  word is a float already, one of the smallest: ``code * 2**(place - 149)``. So one instruction cuts it out, and the
  next multiplies it with x times ``2**(64 - place)`` and adds it to the sum, which is the wanted one times 2**-85. All
  these factors are exact. No conversion of an integer is needed, which is slower. (Such floats must not be flushed to
  zero; Triton does not on any target, unless it is told to.)
- int8 codes are then 128 too large, with their signs flipped, and those of 4 bits by their zero point: what that adds
  to a sum, a multiple of the sum of x, is taken off, of few products at a time.
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
from perf_kernels.decode_linear.token_reading import (
    _DOWN,
    _OFFSET,
    _coded_fourths,
    _large,
    _largest,
    _normed,
    _pieces,
    _read,
    _small,
    _weights,
    _xs,
)


@triton.jit
def _met(sums, weights, xs):
    """Add the products of weights and x, fourths of both."""
    for k in tl.static_range(4):
        sums += weights[k] * xs[k][None, :]
    return sums


@triton.jit
def _sums(
    places,
    x_ptr,
    norm_ptr,
    scale,
    stride,
    first,
    COUNT: tl.constexpr,
    TILE: tl.constexpr,
    RAGGED: tl.constexpr,
    FORMAT: tl.constexpr,
    GROUP: tl.constexpr,
    CODES: tl.constexpr,
    GATED: tl.constexpr,
    PIECE: tl.constexpr,
    FOURS: tl.constexpr,
):
    """Give the sums of ``COUNT`` tiles from column ``first`` on, for both kinds of rows, and of the squares of x.

    ``places``: where both kinds of rows start, and the scales of their groups. ``RAGGED``: rows end within the tile.
    """
    weights, up_weights, groups, up_groups = places
    if FORMAT == _PACKED:
        return _sums_of_packed(
            weights, up_weights, groups, up_groups, x_ptr, norm_ptr, scale, stride, first, COUNT, TILE, RAGGED, GROUP,
            CODES, GATED, PIECE,
        )  # fmt: skip
    else:
        return _sums_of_numbers(
            weights, up_weights, x_ptr, norm_ptr, scale, stride, first, COUNT, TILE, RAGGED, CODES, GATED, FOURS
        )


@triton.jit
def _sums_of_numbers(
    weights,
    up_weights,
    x_ptr,
    norm_ptr,
    scale,
    stride,
    first,
    COUNT: tl.constexpr,
    TILE: tl.constexpr,
    RAGGED: tl.constexpr,
    CODES: tl.constexpr,
    GATED: tl.constexpr,
    FOURS: tl.constexpr,
):
    """Give the sums for weights that are no packed words."""
    rows: tl.constexpr = weights.shape[0]
    by_bits: tl.constexpr = FOURS and weights.dtype.element_ty == tl.int8
    # Every product is added to a sum of its thread: a tree of sums for each tile would cost half as much again.
    sums = tl.zeros([rows, TILE // 4], tl.float32)
    up_sums = tl.zeros([rows, TILE // 4], tl.float32)
    squares = tl.zeros([TILE // 4], tl.float32)
    for i in range(COUNT):
        column = first + i * TILE + tl.arange(0, TILE)
        four = (first + i * TILE) // 4 + tl.arange(0, TILE // 4)
        w = _weights(weights, column[None, :], four[None, :], stride, RAGGED, FOURS)
        if GATED:
            up = _weights(up_weights, column[None, :], four[None, :], stride, RAGGED, FOURS)
        xs, plain = _xs(x_ptr, norm_ptr, column, four, stride, RAGGED, FOURS)
        if norm_ptr is not None:
            for k in tl.static_range(4):
                squares += plain[k] * plain[k]
        xs = _coded_fourths(xs, scale, CODES)
        if by_bits:
            # Taken off before it is added, four by four: sums stay about as small as the wanted ones, and as exact.
            offset = (xs[0] + xs[1] + xs[2] + xs[3])[None, :] * (_OFFSET / _DOWN)
            sums -= offset
            if GATED:
                up_sums -= offset
            xs = (_large(xs[0], 0, 8), _large(xs[1], 8, 8), _large(xs[2], 16, 8), _large(xs[3], 24, 8))
        sums = _met(sums, w, xs)
        if GATED:
            up_sums = _met(up_sums, up, xs)
    if by_bits:
        sums *= _DOWN
        up_sums *= _DOWN
    return sums, up_sums, squares


@triton.jit
def _sums_of_packed(
    weights,
    up_weights,
    groups,
    up_groups,
    x_ptr,
    norm_ptr,
    scale,
    stride,
    first,
    COUNT: tl.constexpr,
    TILE: tl.constexpr,
    RAGGED: tl.constexpr,
    GROUP: tl.constexpr,
    CODES: tl.constexpr,
    GATED: tl.constexpr,
    PIECE: tl.constexpr,
):
    """Give the sums for words of eight weights, ``TILE`` words at a time."""
    rows: tl.constexpr = weights.shape[0]
    sums = tl.zeros([rows, TILE // PIECE], tl.float32)
    up_sums = tl.zeros([rows, TILE // PIECE], tl.float32)
    squares = tl.zeros([TILE], tl.float32)
    for i in range(COUNT):
        at = first + i * TILE + tl.arange(0, TILE)
        words = at[None, :]
        w = _read(weights.to(tl.pointer_type(tl.uint32)) + words, words, stride, RAGGED, "evict_first")
        if GATED:
            up = _read(up_weights.to(tl.pointer_type(tl.uint32)) + words, words, stride, RAGGED, "evict_first")
        piece = (first + i * TILE + tl.arange(0, TILE // PIECE) * PIECE)[None, :]
        s, zero = _group_scale(_read(groups + piece // (GROUP // 8), piece, stride, RAGGED, ""))
        products = tl.zeros([rows, TILE], tl.float32)
        total = tl.zeros([TILE], tl.float32)
        if GATED:
            up_s, up_zero = _group_scale(_read(up_groups + piece // (GROUP // 8), piece, stride, RAGGED, ""))
            up_products = tl.zeros([rows, TILE], tl.float32)
        for nibble in tl.static_range(8):
            x, plain = _normed(x_ptr, norm_ptr, _column(at, nibble, GROUP, _PACKED), at, stride, RAGGED)
            if norm_ptr is not None:
                squares += plain * plain
            x = _coded(x, scale, CODES)
            total += x
            x = _large(x, 4 * nibble, 4)[None, :]
            products += _small(w, 4 * nibble, 4) * x
            if GATED:
                up_products += _small(up, 4 * nibble, 4) * x
        offset = _pieces(total[None, :], PIECE)
        sums += s * (_pieces(products, PIECE) * _DOWN - zero * offset)
        if GATED:
            up_sums += up_s * (_pieces(up_products, PIECE) * _DOWN - up_zero * offset)
    return sums, up_sums, squares


@triton.jit
def _folded(sums, more):
    """Add sums of a smaller tile to those of a larger one, thread by thread: what threads hold is summed up once."""
    rows: tl.constexpr = more.shape[0]
    return tl.sum(tl.reshape(sums, [rows, sums.shape[1] // more.shape[1], more.shape[1]]), axis=1) + more


@triton.jit
def _token_kernel(
    x_ptr,
    weight_ptr,
    scale_ptr,
    norm_ptr,
    residual_ptr,
    y_ptr,
    outputs,
    width: tl.constexpr,
    stride,
    epsilon,
    FORMAT: tl.constexpr,
    GROUP: tl.constexpr,
    CODES: tl.constexpr,
    GATED: tl.constexpr,
    ROWS: tl.constexpr,
    TILE: tl.constexpr,
    TILES: tl.constexpr,
    TAIL: tl.constexpr,
    RAGGED: tl.constexpr,
    PIECE: tl.constexpr,
    FOURS: tl.constexpr,
):
    """Give ``ROWS`` outputs of one token a program.

    ``TILE`` weights of a row, or words of eight, are loaded at a time, ``stride`` in all: ``TILES`` times, and then
    the last ``TAIL``, fewer if ``RAGGED``. ``GATED``: silu of an output times the one ``outputs`` rows further on.
    ``FOURS``: four neighbours of 16 bits, or four codes of 8, can be loaded as one number.
    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = row < outputs
    # Beyond the last row there is none: its weights are read again instead, and no load needs a mask for rows.
    known = tl.minimum(row, outputs - 1)[:, None]
    up_known = known + outputs
    groups = stride // (GROUP // 8)

    scale = 1.0
    if CODES != _AS_THEY_ARE:
        scale = _code_scale(_largest(x_ptr, norm_ptr, width, TILE, FOURS), CODES)

    step = tl.cast(stride, tl.int64)
    if FOURS and weight_ptr.dtype.element_ty.primitive_bitwidth == 8:
        # The same, so that rows seem to start at 8 bytes: a thread then loads 8 codes at a time, as it does of x. With
        # 16 of them, x would move between threads, which takes up to a quarter of all instructions.
        step = (step // 16 + step // 16) * 8
    if FORMAT == _PACKED:
        places = (
            weight_ptr + known * step,
            weight_ptr + up_known * step,
            scale_ptr + known * groups,
            scale_ptr + up_known * groups,
        )
    else:
        places = (weight_ptr + known * step, weight_ptr + up_known * step, scale_ptr, scale_ptr)
    y, u, squares = _sums(
        places, x_ptr, norm_ptr, scale, stride, 0, TILES, TILE, False, FORMAT, GROUP, CODES, GATED, PIECE, FOURS
    )
    if TAIL > 0:
        # What lies beyond the end of rows is not read, but costs as many instructions: so the last tile is smaller.
        first = TILES * TILE
        more_y, more_u, more_squares = _sums(
            places, x_ptr, norm_ptr, scale, stride, first, 1, TAIL, RAGGED, FORMAT, GROUP, CODES, GATED, PIECE, FOURS
        )
        y = _folded(y, more_y)
        u = _folded(u, more_u)
        square = tl.sum(tl.sum(_folded(squares[None, :], more_squares[None, :]), axis=1), axis=0)
    else:
        square = tl.sum(squares, axis=0)
    y = tl.sum(y, axis=1)
    u = tl.sum(u, axis=1)

    factor = 1.0
    if norm_ptr is not None:
        factor = tl.rsqrt(square / width + epsilon)
    if CODES != _AS_THEY_ARE:
        factor = factor / scale
    y *= factor
    if FORMAT == _SCALED:
        y *= tl.load(scale_ptr + row, mask=inside, other=0.0)
    if GATED:
        u *= factor
        if FORMAT == _SCALED:
            u *= tl.load(scale_ptr + outputs + row, mask=inside, other=0.0)
        y = y * tl.sigmoid(y) * u
    if residual_ptr is not None:
        y += tl.load(residual_ptr + row, mask=inside, other=0.0).to(tl.float32)
    tl.store(y_ptr + row, y.to(y_ptr.dtype.element_ty), mask=inside)
