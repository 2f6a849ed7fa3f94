"""How are the weights and activations of one token's product read, and codes made floats in one instruction?

Why floats of that kind is said in :mod:`perf_kernels.decode_linear.token_kernel`.
"""

from __future__ import annotations

import triton
import triton.language as tl

from perf_kernels.decode_linear.formats import _coded

#: Activations that meet the smallest floats are multiplied with ``_UP``, and sums of their products with ``_DOWN``. No
#: product is too large or too small for activations of 1e-12 to 1e19.
_UP, _DOWN = tl.constexpr(2.0**64), tl.constexpr(2.0**85)
#: What is added to an int8 code by flipping its sign.
_OFFSET = tl.constexpr(128.0)
#: The signs of four codes.
_SIGNS = tl.constexpr(0x80808080)


@triton.jit
def _read(pointers, at, end, RAGGED: tl.constexpr, KEPT: tl.constexpr):
    """Load numbers, 0 for places ``at`` beyond the end. A mask costs instructions, so there is none without such."""
    if RAGGED:
        return tl.load(pointers, mask=at < end, other=0.0, eviction_policy=KEPT)
    else:
        return tl.load(pointers, eviction_policy=KEPT)


@triton.jit
def _normed(x_ptr, norm_ptr, column, at, end, RAGGED: tl.constexpr):
    """Give x, times the weights of the norm if there is one, and x as it is, fp32."""
    x = _read(x_ptr + column, at, end, RAGGED, "evict_last").to(tl.float32)
    if norm_ptr is None:
        return x, x
    else:
        return x * _read(norm_ptr + column, at, end, RAGGED, "evict_last").to(tl.float32), x


@triton.jit
def _small(bits, PLACE: tl.constexpr, SIZE: tl.constexpr):
    """Give ``SIZE`` bits of each word from ``PLACE`` on as a float, to be multiplied by what :func:`_large` gives."""
    if PLACE + SIZE <= 24:
        return (bits & ((1 << SIZE) - 1 << PLACE)).to(tl.float32, bitcast=True)
    elif PLACE + SIZE == 32:
        return (bits >> PLACE).to(tl.float32, bitcast=True)
    else:
        return (bits >> PLACE & (1 << SIZE) - 1).to(tl.float32, bitcast=True)


@triton.jit
def _large(x, PLACE: tl.constexpr, SIZE: tl.constexpr):
    """Give x as it meets a float of :func:`_small`."""
    power: tl.constexpr = 1.0 / (1 << PLACE) if PLACE + SIZE <= 24 else 1.0
    return x * (_UP * power)


@triton.jit
def _fourths(numbers):
    """Give every fourth number of the last dimension, from the first, second, third and fourth on: one thread's."""
    if len(numbers.shape) == 1:
        pairs = tl.reshape(numbers, [numbers.shape[0] // 4, 2, 2])
    else:
        pairs = tl.reshape(numbers, [numbers.shape[0], numbers.shape[1] // 4, 2, 2])
    even, odd = tl.split(pairs)
    first, third = tl.split(even)
    second, fourth = tl.split(odd)
    return first, second, third, fourth


@triton.jit
def _pieces(products, PIECE: tl.constexpr):
    """Sum up what one thread holds of a row, ``PIECE`` neighbours: no thread waits for another."""
    rows: tl.constexpr = products.shape[0]
    return tl.sum(tl.reshape(products, [rows, products.shape[1] // PIECE, PIECE]), axis=2)


@triton.jit
def _high(bits, dtype: tl.constexpr):
    """Give the number of 16 bits in the upper half of each word, fp32."""
    if dtype == tl.bfloat16:
        return (bits & 0xFFFF0000).to(tl.float32, bitcast=True)
    else:
        return (bits >> 16).to(tl.uint16).to(dtype, bitcast=True).to(tl.float32)


@triton.jit
def _fours(pointers, four, end, RAGGED: tl.constexpr, KEPT: tl.constexpr):
    """Load four numbers of 16 bits as one, and give the first, second, third and fourth ones, fp32."""
    dtype: tl.constexpr = pointers.dtype.element_ty
    bits = _read(pointers.to(tl.pointer_type(tl.uint64)) + four, four, end // 4, RAGGED, KEPT)
    low, high = bits.to(tl.uint32), (bits >> 32).to(tl.uint32)
    return _high(low << 16, dtype), _high(low, dtype), _high(high << 16, dtype), _high(high, dtype)


@triton.jit
def _xs(x_ptr, norm_ptr, column, four, width, RAGGED: tl.constexpr, FOURS: tl.constexpr):
    """Give x in fourths, times the weights of the norm if there is one, and as it is."""
    if FOURS:
        plain = _fours(x_ptr, four, width, RAGGED, "evict_last")
        if norm_ptr is None:
            return plain, plain
        else:
            g = _fours(norm_ptr, four, width, RAGGED, "evict_last")
            return (plain[0] * g[0], plain[1] * g[1], plain[2] * g[2], plain[3] * g[3]), plain
    else:
        x, as_it_is = _normed(x_ptr, norm_ptr, column, column, width, RAGGED)
        return _fourths(x), _fourths(as_it_is)


@triton.jit
def _coded_fourths(xs, scale, CODES: tl.constexpr):
    """Round fourths of x to codes if they are to be."""
    return (
        _coded(xs[0], scale, CODES),
        _coded(xs[1], scale, CODES),
        _coded(xs[2], scale, CODES),
        _coded(xs[3], scale, CODES),
    )


@triton.jit
def _largest(x_ptr, norm_ptr, width: tl.constexpr, TILE: tl.constexpr, FOURS: tl.constexpr):
    """Give the largest magnitude of x, times the weights of the norm if there is one."""
    top = tl.zeros([TILE // 4], tl.float32)
    for i in range((width + TILE - 1) // TILE):
        column, four = i * TILE + tl.arange(0, TILE), i * (TILE // 4) + tl.arange(0, TILE // 4)
        xs, _ = _xs(x_ptr, norm_ptr, column, four, width, width % TILE != 0, FOURS)
        for k in tl.static_range(4):
            top = tl.maximum(top, tl.abs(xs[k]))
    return tl.max(top, axis=0)


@triton.jit
def _weights(rows, column, four, width, RAGGED: tl.constexpr, FOURS: tl.constexpr):
    """Load a tile of every row, each weight once, in fourths, fp32; int8 codes of fours as floats of their bits."""
    if FOURS and rows.dtype.element_ty == tl.int8:
        codes = _read(rows.to(tl.pointer_type(tl.uint32)) + four, four, width // 4, RAGGED, "evict_first")
        bits = codes ^ _SIGNS
        return _small(bits, 0, 8), _small(bits, 8, 8), _small(bits, 16, 8), _small(bits, 24, 8)
    elif FOURS and rows.dtype.element_ty.primitive_bitwidth == 16:
        return _fours(rows, four, width, RAGGED, "evict_first")
    else:
        return _fourths(_read(rows + column, column, width, RAGGED, "evict_first").to(tl.float32))
