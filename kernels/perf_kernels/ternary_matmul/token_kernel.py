"""How is one token multiplied by weights of 2 bits in a single launch, exactly?

- A 32-bit word holds four bytes of packed weights, and a field of it, masked, four int8 factors; four codes of the
  token are packed into a word as well. One instruction (``dp4a``, on AMD ``v_dot4``) multiplies and adds all four.
- A field's product is a multiple of 4**field: sums go from the highest field to the lowest, shifted by two bits between
  fields, which is exact because each sum is then a multiple of what is cut off.
- The lower three fields hold w + 1. What that adds to every output, the sum of the token's codes there, is taken off.
- Each program quantises the whole row for itself while its weights, requested before, are on their way from memory.
"""

from __future__ import annotations

import triton
import triton.language as tl

from perf_kernels.ternary_matmul.kernel import _COLUMNS, _ROUNDER, _ROUNDER_BITS, _finish, _magnitude, _scales
from perf_kernels.ternary_matmul.reference import BLOCK_BYTES

#: Words of a block's row, and in one field: four bytes each.
_WORDS = tl.constexpr(BLOCK_BYTES // 4)
_FIELD_COLUMNS = tl.constexpr(BLOCK_BYTES)
#: Masks of the fields, from the lowest.
_MASKS = tl.constexpr((0x03030303, 0x0C0C0C0C, 0x30303030, -0x3F3F3F40))


def _four_words() -> str:
    """Give PTX that adds up four neighbouring words ($4 to $7) times their codes, field by field from $8 on.

    The sum stands where the first word did, zeros in place of the others: fewer shifts and additions than word by word.
    """
    lines = ["{", ".reg .b32 field, sum;", "mov.b32 sum, 0;"]
    for field in (3, 2, 1, 0):
        for word in range(4):
            mask = f"{_MASKS.value[field] & 0xFFFFFFFF:#010x}"
            lines.append(f"and.b32 field, ${4 + word}, {mask};")
            lines.append(f"dp4a.s32.s32 sum, field, ${8 + 4 * field + word}, sum;")
        if field:
            lines.append("shr.s32 sum, sum, 2;")
    return "\n".join([*lines, "mov.b32 $0, sum;", *(f"mov.b32 ${i}, 0;" for i in (1, 2, 3)), "}"])


_DP4A = tl.constexpr(_four_words())
_DP4A_OPERANDS = tl.constexpr(",".join(["=r"] * 4 + ["r"] * 20))
#: CDNA and RDNA.
_DOT4 = tl.constexpr("v_dot4_i32_i8 $0, $1, $2, $3")
_DOT4_IU8 = tl.constexpr("v_dot4_i32_iu8 $0, $1, $2, $3 neg_lo:[1,1,0]")


@triton.jit
def _products(words, codes0, codes1, codes2, codes3, DOT: tl.constexpr):
    """Give int32 whose sum over a row of ``words`` is that of all its products; single values mean nothing.

    Args:
        words: packed weights, int32 [OUTPUTS, WORDS]; each thread holds groups of four neighbours of a row.
        codes0: codes that meet the lowest field, four to a word, broadcast to the shape of ``words``.
        codes1: the same for the second field.
        codes2: the same for the third.
        codes3: the same for the highest.
        DOT: instruction: "dp4a", "dot4", "dot4_iu8", or "" for shifts and multiplications.
    """
    codes = (codes0, codes1, codes2, codes3)
    sums = tl.zeros_like(words)
    if DOT == "dp4a":
        sums = tl.inline_asm_elementwise(
            _DP4A,
            _DP4A_OPERANDS,
            [words, codes0, codes1, codes2, codes3],
            dtype=tl.int32,
            is_pure=True,
            pack=4,
        )
    elif DOT == "":
        for j in tl.static_range(4):
            for f in tl.static_range(4):
                code = (codes[f] << (24 - 8 * j)) >> 24
                if f == 3:
                    sums += ((words << (24 - 8 * j)) >> 30) * code
                else:
                    sums += ((words >> (8 * j + 2 * f)) & 3) * code
    else:
        dot: tl.constexpr = _DOT4_IU8 if DOT == "dot4_iu8" else _DOT4
        for f in tl.static_range(4):
            operands = [words & _MASKS[3 - f], codes[3 - f], sums]
            sums = tl.inline_asm_elementwise(dot, "=v,v,v,v", operands, dtype=tl.int32, is_pure=True, pack=1)
            if f < 3:
                sums = sums >> 2
    return sums


@triton.jit
def _load_tile(x_ptr, column, width, x_column_stride):
    """Load a tile of a row: for each field the columns [WORDS, 4] that meet it, 0 past the row's end."""
    at = column.to(tl.int64)
    step = x_column_stride * _FIELD_COLUMNS
    x_ptr += at * x_column_stride
    x0 = tl.load(x_ptr, mask=at < width, other=0.0)
    x1 = tl.load(x_ptr + step, mask=at < width - _FIELD_COLUMNS, other=0.0)
    x2 = tl.load(x_ptr + 2 * step, mask=at < width - 2 * _FIELD_COLUMNS, other=0.0)
    x3 = tl.load(x_ptr + 3 * step, mask=at < width - 3 * _FIELD_COLUMNS, other=0.0)
    return x0, x1, x2, x3


@triton.jit
def _largest_of(top, tile):
    """Give the larger of ``top`` and the magnitudes of a tile, elementwise [WORDS, 4]."""
    for f in tl.static_range(4):
        top = tl.maximum(top, _magnitude(tile[f]))
    return top


@triton.jit
def _codes_of(x, scale):
    """Give round(x s) of [WORDS, 4] as bits whose lowest byte is the code, and the four codes of a word in one."""
    bits = tl.fma(x.to(tl.float32), scale, _ROUNDER).to(tl.int32, bitcast=True)
    return bits, tl.sum((bits & 255) << (8 * tl.arange(0, 4))[None, :], axis=1)


@triton.jit
def _multiply_tile(words, tile, scale, DOT: tl.constexpr):
    """Give the products [OUTPUTS, WORDS] of a tile and the sum of the codes that meet the lower fields [WORDS, 4]."""
    bits0, codes0 = _codes_of(tile[0], scale)
    bits1, codes1 = _codes_of(tile[1], scale)
    bits2, codes2 = _codes_of(tile[2], scale)
    _, codes3 = _codes_of(tile[3], scale)
    codes0 = tl.broadcast_to(codes0[None, :], words.shape)
    codes1 = tl.broadcast_to(codes1[None, :], words.shape)
    codes2 = tl.broadcast_to(codes2[None, :], words.shape)
    codes3 = tl.broadcast_to(codes3[None, :], words.shape)
    excess = (bits0 - _ROUNDER_BITS) + (bits1 - _ROUNDER_BITS) + (bits2 - _ROUNDER_BITS)
    return _products(words, codes0, codes1, codes2, codes3, DOT), excess


@triton.jit
def _load_words(row_ptr, at, inside, row_words):
    """Load packed weights [OUTPUTS, WORDS]; 0 past the last row and the end of a row."""
    return tl.load(row_ptr[:, None] + at[None, :], mask=inside[:, None] & (at < row_words)[None, :], other=0)


@triton.jit
def _token_kernel(
    x_ptr,
    packed_ptr,
    gamma_ptr,
    bias_ptr,
    y_ptr,
    width,
    outputs,
    row_words,
    step,
    x_column_stride,
    OUTPUTS: tl.constexpr,
    SLICES: tl.constexpr,
    TILES: tl.constexpr,
    DOT: tl.constexpr,
):
    """Quantise one token and give ``step`` of its outputs a program, at most ``OUTPUTS``."""
    input_type: tl.constexpr = x_ptr.dtype.element_ty
    output = tl.program_id(0).to(tl.int64) * step + tl.arange(0, OUTPUTS)
    inside = (tl.arange(0, OUTPUTS) < step) & (output < outputs)
    row_ptr = packed_ptr + output * row_words
    word = tl.arange(0, SLICES * _WORDS)
    # Where the four columns of a word are in the lowest field.
    column = ((word // _WORDS) * _COLUMNS + (word % _WORDS) * 4)[:, None] + tl.arange(0, 4)[None, :]
    gamma = tl.load(gamma_ptr)
    # Weights first: they come from memory while the activations are looked through.
    words = _load_words(row_ptr, word, inside, row_words)
    if TILES == 2:
        other_words = _load_words(row_ptr, word + SLICES * _WORDS, inside, row_words)

    tile = _load_tile(x_ptr, column, width, x_column_stride)
    top = _largest_of(_magnitude(tl.zeros([SLICES * _WORDS, 4], input_type)), tile)
    if TILES == 2:
        other = _load_tile(x_ptr, column + SLICES * _COLUMNS, width, x_column_stride)
        top = _largest_of(top, other)
    elif TILES > 2:
        for i in range(1, TILES):
            top = _largest_of(top, _load_tile(x_ptr, column + i * SLICES * _COLUMNS, width, x_column_stride))
    scale, factor = _scales(tl.max(tl.max(top, axis=1), axis=0), gamma, input_type)

    sums, excess = _multiply_tile(words, tile, scale, DOT)
    if TILES == 2:
        more, rest = _multiply_tile(other_words, other, scale, DOT)
        sums += more
        excess += rest
    elif TILES > 2:
        for i in range(1, TILES):
            next_words = _load_words(row_ptr, word + i * SLICES * _WORDS, inside, row_words)
            next_tile = _load_tile(x_ptr, column + i * SLICES * _COLUMNS, width, x_column_stride)
            more, rest = _multiply_tile(next_words, next_tile, scale, DOT)
            sums += more
            excess += rest

    total = tl.sum(sums, axis=1) - tl.sum(tl.sum(excess, axis=1), axis=0)
    tl.store(y_ptr + output, _finish(total, factor, bias_ptr, output, inside, y_ptr.dtype.element_ty), mask=inside)
