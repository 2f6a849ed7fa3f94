"""With how many warps, and how many groups a thread, is a row quantised and slid?

A thread holds a *unit*: whole groups of L columns, in as many units as it takes (a *tile* is one unit of every thread).
How many groups make a unit decides how wide its accesses are, and whether threads have to trade words so that
neighbours store neighbouring ones:

== ====== ======================= ======================= =====
L  groups loads of a thread       stores of a thread      trade
== ====== ======================= ======================= =====
4  2      1 x 16 bytes            1 x 8 bytes             no
6  2      3 x 8 bytes             1 x 16 bytes            no
8  2      2 x 16 bytes            3 of 4 lanes x 8 bytes  yes
10 1      5 x 4 bytes             1 x 16 bytes            no
12 2      3 x 16 bytes            5 of 8 lanes x 8 bytes  yes
== ====== ======================= ======================= =====

(bf16 and fp16; fp32 takes twice the loads.) Loads of a unit overlap in cache lines, which the L1 cache joins. Stores
are not joined anywhere near, so those of a warp always fill whole sectors of 32 bytes.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from perf_kernels.row_launch import FILLING_WARPS, MAX_THREADS
from perf_kernels.tuned import rows_class

#: Bytes of one access, at most.
ACCESS_BYTES = 16
WINDOW = 4
#: What q's width and q's number of rows are padded to, for the matrix multiplication that follows.
WIDTH_MULTIPLE = 32
ROW_MULTIPLE = 16
#: A row stays in registers up to this many bytes a thread, 40 of the 64 registers that 1024 threads leave.
MAX_HELD_BYTES = 160
#: Warps are added until a thread holds at most this much, which is 36 registers.
COMFORTABLE_HELD_BYTES = 144
#: Groups of a unit, by L.
GROUPS = {4: 2, 6: 2, 8: 2, 10: 1, 12: 2}


@dataclass(frozen=True)
class LaunchConfig:
    """How one launch cuts up a row.

    Attributes:
        num_warps: warps of a program, a power of two; a program makes one row.
        groups: groups of L columns that a thread holds together (a unit): 1, 2 or 4.
        trade: let the threads of a warp trade words, so that they store neighbouring ones; nothing to trade where a
            unit is one store.
        one_pass: keep the row in registers between the search for its largest value and the rounding. Otherwise the row
            is read twice, which no width is too large for.
    """

    num_warps: int
    groups: int
    trade: bool = True
    one_pass: bool = True


@dataclass(frozen=True)
class Cut:
    """What follows from a :class:`LaunchConfig` for rows of one width.

    Attributes:
        vector: columns that one load of a thread covers.
        across: words (windows) that one store of a thread covers.
        units: units of a tile, one a thread.
        tiles: tiles that cover a row and its padding.
        whole: tiles, from the left, that need no mask.
    """

    vector: int
    across: int
    units: int
    tiles: int
    whole: int


def slid_width(width: int, group: int) -> int:
    """Give K', the columns of the result for a row of ``width``: W windows a group, padded to a multiple of 32."""
    return _up(-(-width // group) * (group // 2 - 1) * WINDOW, WIDTH_MULTIPLE)


def padded_rows(rows: int) -> int:
    """Give the rows of the result for ``rows`` rows: padded to a multiple of 16."""
    return _up(rows, ROW_MULTIPLE)


def cut(config: LaunchConfig, width: int, group: int, itemsize: int, lanes: int) -> Cut:
    """Work out how ``config`` cuts rows of ``width`` columns.

    Args:
        config: how to launch.
        width: columns of the input.
        group: L.
        itemsize: bytes of an input element.
        lanes: threads of a warp.
    """
    columns, words = config.groups * group, config.groups * (group // 2 - 1)
    units = config.num_warps * lanes
    row_words = slid_width(width, group) // WINDOW
    return Cut(
        vector=_power_of_two_in(columns, ACCESS_BYTES // itemsize),
        across=_power_of_two_in(words, ACCESS_BYTES // WINDOW),
        units=units,
        tiles=-(-row_words // (units * words)),
        whole=min(width // (units * columns), row_words // (units * words)),
    )


@functools.lru_cache(maxsize=4096)
def launch_config(rows: int, width: int, group: int, itemsize: int, lanes: int = 32) -> LaunchConfig:
    """Choose the launch for a matrix ``[rows, width]`` and groups of L = ``group``.

    Args:
        rows: number of rows, at least 1.
        width: columns of a row, at least 1.
        group: L.
        itemsize: bytes of an input element.
        lanes: threads of a warp (64 on AMD's CDNA).
    """
    groups = GROUPS[group]
    num_warps = 1
    while True:
        config = LaunchConfig(num_warps, groups)
        tiles = cut(config, width, group, itemsize, lanes).tiles
        held = tiles * groups * group * itemsize
        enough = held <= COMFORTABLE_HELD_BYTES and rows * num_warps >= FILLING_WARPS
        if tiles == 1 or enough or 2 * num_warps * lanes > MAX_THREADS:
            break
        num_warps *= 2
    return LaunchConfig(num_warps, groups, one_pass=held <= MAX_HELD_BYTES)


def shape_class(rows: int, width: int, group: int, itemsize: int, integer: bool) -> str:
    """Name the shapes that share a tuned configuration, e.g. ``int8-2_8-16bit-3584-128``: one L and width, some rows.

    Args:
        rows: number of rows.
        width: columns of a row.
        group: L.
        itemsize: bytes of an input element.
        integer: whether the codes are INT8; else they are FP8.
    """
    return f"{'int8' if integer else 'fp8'}-2_{group}-{8 * itemsize}bit-{width}-{rows_class(rows)}"


def bytes_moved(rows: int, width: int, group: int, itemsize: int) -> int:
    """Count the bytes that must be moved: the input, and one byte a code and four a scale of the padded result."""
    return rows * width * itemsize + padded_rows(rows) * (slid_width(width, group) + 4)


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _power_of_two_in(number: int, limit: int) -> int:
    """Give the largest power of two that divides ``number``, up to ``limit``."""
    return min(number & -number, limit)
