"""How does one pass over memory quantise the rows of a matrix and slide them for 2:4 hardware?

Row quantisation (:mod:`perf_kernels.rows`), and then every window of 4 codes at stride 2 within a
group of L columns is written out: ``q[4 (g W + w) + l] = code[g L + 2 w + l]``, W = L / 2 - 1 windows a group.

- A window starts at an even column, so codes travel as pairs, 16 bits: pairs w and w + 1 of a group are its window w,
  one 32-bit word. A pair is made once and used by two windows.
- A thread holds whole groups: every value is loaded once, and every window is made of the thread's registers.
- What one thread makes does not fill a 32-byte sector of memory together with what its neighbours make, unless it is
  one store. Otherwise the threads of a warp trade words before they store.
- Padding columns are what a masked load gives, padding rows are programs of their own: there is no separate memset.
- Row offsets are 64 bits wide: the result passes 2**31 bytes before the input passes 2**31 elements.
"""

from __future__ import annotations

import triton
import triton.language as tl

from perf_kernels.rows import magnitude, scale_and_inverse, to_codes


@triton.jit
def _load_unit(x_row, x_column_stride, width, unit, COLUMNS: tl.constexpr, VECTOR: tl.constexpr, MASKED: tl.constexpr):
    """Load units of COLUMNS columns as a tuple of [UNITS, VECTOR] tensors; part i has columns VECTOR i and on."""
    lane = tl.arange(0, VECTOR)[None, :]
    parts = ()
    for i in tl.static_range(COLUMNS // VECTOR):
        column = (unit * COLUMNS)[:, None] + i * VECTOR + lane
        mask = column < width if MASKED else None
        part = tl.load(x_row + column.to(tl.int64) * x_column_stride, mask=mask, other=0.0 if MASKED else None)
        parts = parts + (part,)
    return parts


@triton.jit
def _pairs(codes):
    """Give the pairs in [UNITS, VECTOR] codes as VECTOR / 2 tensors [UNITS] int32, the first code in the low byte."""
    units: tl.constexpr = codes.shape[0]
    half: tl.constexpr = codes.shape[1] // 2
    bits = codes.to(tl.uint8, bitcast=True).to(tl.int32)
    low, high = tl.split(tl.reshape(bits, [units, half, 2]))
    pair = low | (high << 8)
    if half == 1:
        return (tl.reshape(pair, [units]),)
    elif half == 2:
        first, second = tl.split(pair)
        return (first, second)
    else:
        even, odd = tl.split(tl.reshape(pair, [units, 2, 2]))
        first, third = tl.split(even)
        second, fourth = tl.split(odd)
        return (first, second, third, fourth)


@triton.jit
def _side_by_side(words, COUNT: tl.constexpr):
    """Join COUNT tensors [UNITS], a power of two, to one [UNITS, COUNT]; the last is repeated where there are fewer."""
    units: tl.constexpr = words[0].shape[0]
    length: tl.constexpr = len(words)
    parts = ()
    for i in tl.static_range(COUNT):
        parts = parts + (tl.reshape(words[i if i < length else length - 1], [units, 1]),)
    # Part i joined with part i + half makes a new fastest dimension: after the last step all are in order.
    for step in tl.static_range(COUNT.bit_length() - 1):
        joined = ()
        for i in tl.static_range(COUNT >> (step + 1)):
            both = tl.join(parts[i], parts[i + (COUNT >> (step + 1))])
            joined = joined + (tl.reshape(both, [units, 2 << step]),)
        parts = joined
    return parts[0]


@triton.jit
def _unit_of_each_thread(UNITS: tl.constexpr, PARTS: tl.constexpr, LANES: tl.constexpr):
    """Number the units of a tile: [UNITS], thread by thread.

    A warp's store of traded words covers the units of LANES / PARTS threads. What a warp makes must be what it stores:
    then words stay within the warp. So its threads hold the units that its stores will cover.
    """
    thread = tl.arange(0, UNITS)
    if PARTS == 1:
        return thread
    covered: tl.constexpr = LANES // PARTS
    store = thread // covered % PARTS
    return (store * (UNITS // LANES) + thread // LANES) * covered + thread % covered


@triton.jit
def _store_unit(
    q_row,
    q_width,
    unit,
    pairs,
    GROUPS: tl.constexpr,
    ACROSS: tl.constexpr,
    PARTS: tl.constexpr,
    LANES: tl.constexpr,
    MASKED: tl.constexpr,
):
    """Make the windows of units and store them, ACROSS at a time.

    Args:
        q_row: int32 pointer to a row's first window.
        q_width: bytes of a row, a multiple of 32.
        unit: [UNITS] numbers of the units within the row.
        pairs: the pairs of a unit in order, [UNITS] int32 each.
        GROUPS: groups of a unit.
        ACROSS: a power of two that divides the windows of a unit.
        PARTS: lanes that store the words of a unit together once they are traded, a power of two; 1 to trade none.
        LANES: threads of a warp.
        MASKED: store nothing past the row's end.
    """
    units: tl.constexpr = unit.shape[0]
    size: tl.constexpr = len(pairs) // GROUPS
    stores: tl.constexpr = GROUPS * (size - 1) // ACROSS
    words = ()
    for g in tl.static_range(GROUPS):
        for w in tl.static_range(size - 1):
            words = words + (pairs[g * size + w] | (pairs[g * size + w + 1] << 16),)
    # Stores are numbered along the row: multiplied last, so that the compiler sees how they are aligned.
    store = (unit * stores)[:, None]
    lane = tl.arange(0, ACROSS)[None, :]
    if PARTS == 1:
        for i in tl.static_range(stores):
            first = (store + i) * ACROSS
            values = _side_by_side(words[i * ACROSS : (i + 1) * ACROSS], ACROSS)
            tl.store(q_row + first + lane, values, mask=first * 4 < q_width if MASKED else None)
    else:
        warps: tl.constexpr = units // LANES
        part = tl.arange(0, PARTS)[None, :]
        # [warp, part, lane] to [part, warp, lane]: what all warps store at once is one stretch of memory.
        store = tl.permute(tl.reshape(store + part, [warps, PARTS, LANES]), (1, 0, 2))
        first = tl.reshape(store, [units * PARTS, 1]) * ACROSS
        values = tl.reshape(_side_by_side(words, PARTS * ACROSS), [warps, PARTS, LANES * ACROSS])
        values = tl.reshape(tl.permute(values, (1, 0, 2)), [units * PARTS, ACROSS])
        part = tl.reshape(tl.broadcast_to(part, [units, PARTS]), [units * PARTS, 1])
        # A mask that is always true costs nothing: it is known when the kernel is compiled.
        mask = (part < stores) & (first * 4 < q_width) if MASKED else part < stores
        tl.store(q_row + first + lane, values, mask=mask)


@triton.jit
def _store_zeros(q_row, q_width, scale_ptr, scale, UNITS: tl.constexpr, STORES: tl.constexpr):
    """Make a row of zeros, in STORES stores of UNITS words, and its scale."""
    tl.store(scale_ptr, scale)
    for i in range(STORES):
        word = i * UNITS + tl.arange(0, UNITS)
        tl.store(q_row + word, tl.zeros([UNITS], tl.int32), mask=word * 4 < q_width)


@triton.jit
def _one_pass_kernel(
    x_ptr,
    q_ptr,
    scale_ptr,
    rows,
    width,
    q_blocks,
    x_row_stride,
    x_column_stride,
    CODE: tl.constexpr,
    LARGEST: tl.constexpr,
    GROUP: tl.constexpr,
    GROUPS: tl.constexpr,
    VECTOR: tl.constexpr,
    ACROSS: tl.constexpr,
    PARTS: tl.constexpr,
    LANES: tl.constexpr,
    UNITS: tl.constexpr,
    TILES: tl.constexpr,
    WHOLE: tl.constexpr,
):
    """Make one row a program, kept in registers as TILES tiles; those from WHOLE on are masked."""
    input_type: tl.constexpr = x_ptr.dtype.element_ty
    code_type: tl.constexpr = CODE
    columns: tl.constexpr = GROUPS * GROUP
    loads: tl.constexpr = columns // VECTOR
    zeros: tl.constexpr = TILES * GROUPS * (GROUP // 2 - 1)
    row = tl.program_id(0).to(tl.int64)
    # Blocks of 32 bytes: with 8 words factored out, the compiler sees how rows are aligned.
    q_row = q_ptr + row * q_blocks * 8
    q_width = q_blocks * 32
    if row >= rows:
        _store_zeros(q_row, q_width, scale_ptr + row, 1.0, UNITS, zeros)
    else:
        x_row = x_ptr + row * x_row_stride
        unit = _unit_of_each_thread(UNITS, PARTS, LANES)

        # Every load is issued before the first value is used.
        parts = ()
        for i in tl.static_range(TILES):
            parts = parts + _load_unit(x_row, x_column_stride, width, i * UNITS + unit, columns, VECTOR, i >= WHOLE)

        top = magnitude(parts[0])
        for i in tl.static_range(1, TILES * loads):
            top = tl.maximum(top, magnitude(parts[i]))
        largest = tl.max(tl.max(top, axis=1), axis=0).to(top.dtype).to(input_type, bitcast=True).to(tl.float32)

        if largest < float("inf"):
            scale, inverse, lack = scale_and_inverse(largest, LARGEST, code_type == tl.int8)
            tl.store(scale_ptr + row, scale)
            for i in tl.static_range(TILES):
                pairs = ()
                for j in tl.static_range(loads):
                    pairs = pairs + _pairs(to_codes(parts[i * loads + j], inverse, lack, code_type))
                _store_unit(q_row, q_width, i * UNITS + unit, pairs, GROUPS, ACROSS, PARTS, LANES, i >= WHOLE)
        else:
            _store_zeros(q_row, q_width, scale_ptr + row, largest, UNITS, zeros)


@triton.jit
def _two_pass_kernel(
    x_ptr,
    q_ptr,
    scale_ptr,
    rows,
    width,
    q_blocks,
    x_row_stride,
    x_column_stride,
    CODE: tl.constexpr,
    LARGEST: tl.constexpr,
    GROUP: tl.constexpr,
    GROUPS: tl.constexpr,
    VECTOR: tl.constexpr,
    ACROSS: tl.constexpr,
    PARTS: tl.constexpr,
    LANES: tl.constexpr,
    UNITS: tl.constexpr,
    TILES: tl.constexpr,
):
    """Make one row a program, read twice: for rows that do not fit in registers."""
    input_type: tl.constexpr = x_ptr.dtype.element_ty
    code_type: tl.constexpr = CODE
    columns: tl.constexpr = GROUPS * GROUP
    loads: tl.constexpr = columns // VECTOR
    zeros: tl.constexpr = TILES * GROUPS * (GROUP // 2 - 1)
    row = tl.program_id(0).to(tl.int64)
    # Blocks of 32 bytes: with 8 words factored out, the compiler sees how rows are aligned.
    q_row = q_ptr + row * q_blocks * 8
    q_width = q_blocks * 32
    if row >= rows:
        _store_zeros(q_row, q_width, scale_ptr + row, 1.0, UNITS, zeros)
    else:
        x_row = x_ptr + row * x_row_stride
        unit = _unit_of_each_thread(UNITS, PARTS, LANES)

        top = magnitude(tl.zeros([UNITS, VECTOR], input_type))
        for i in range(TILES):
            parts = _load_unit(x_row, x_column_stride, width, i * UNITS + unit, columns, VECTOR, True)
            for j in tl.static_range(loads):
                top = tl.maximum(top, magnitude(parts[j]))
        largest = tl.max(tl.max(top, axis=1), axis=0).to(top.dtype).to(input_type, bitcast=True).to(tl.float32)

        if largest < float("inf"):
            scale, inverse, lack = scale_and_inverse(largest, LARGEST, code_type == tl.int8)
            tl.store(scale_ptr + row, scale)
            for i in range(TILES):
                parts = _load_unit(x_row, x_column_stride, width, i * UNITS + unit, columns, VECTOR, True)
                pairs = ()
                for j in tl.static_range(loads):
                    pairs = pairs + _pairs(to_codes(parts[j], inverse, lack, code_type))
                _store_unit(q_row, q_width, i * UNITS + unit, pairs, GROUPS, ACROSS, PARTS, LANES, True)
        else:
            _store_zeros(q_row, q_width, scale_ptr + row, largest, UNITS, zeros)
