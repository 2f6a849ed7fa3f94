"""With how many warps, and in tiles of which width, is a row activated and quantised?

A tile is what one instruction of every thread covers: 16 bytes of gate, and another covers 16 bytes of up. Products are
kept rounded to the input's type, so that a row takes no more registers than one half of the input.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from perf_kernels.tuned import rows_class

#: Bytes that one thread loads with one instruction.
LOAD_BYTES = 16
#: A row stays in registers up to this many tiles: 40 registers a thread for the products.
MAX_TILES = 10
#: Warps are added until a thread holds at most this many tiles: 40 registers for gate and up while they are loaded.
COMFORTABLE_TILES = 5
#: Below this many warps a launch does not fill a large GPU: then rows are spread over more threads, for latency.
FILLING_WARPS = 4096
MAX_THREADS = 1024


@dataclass(frozen=True)
class LaunchConfig:
    """How one launch cuts up a row.

    Attributes:
        num_warps: warps of a program, a power of two; a program makes one row.
        tile: columns handled at a time, a power of two.
        one_pass: keep the products in registers between the search for the largest and the rounding. Otherwise the row
            is read and activated twice, which no width is too large for.
    """

    num_warps: int
    tile: int
    one_pass: bool = True

    def tiles(self, width: int) -> int:
        """Give the number of tiles that cover a row of this width."""
        return -(-width // self.tile)


@functools.lru_cache(maxsize=4096)
def launch_config(rows: int, width: int, itemsize: int, lanes: int = 32) -> LaunchConfig:
    """Choose the launch for a result ``[rows, width]``.

    Args:
        rows: number of rows, at least 1.
        width: columns of the result, half those of the input, at least 1.
        itemsize: bytes of an input element.
        lanes: threads of a warp (64 on AMD's CDNA).
    """
    warp_columns = lanes * LOAD_BYTES // itemsize
    num_warps = 1
    while 2 * num_warps * lanes <= MAX_THREADS:
        tiles = -(-width // (num_warps * warp_columns))
        if tiles == 1 or (tiles <= COMFORTABLE_TILES and rows * num_warps >= FILLING_WARPS):
            break
        num_warps *= 2
    tile = num_warps * warp_columns
    return LaunchConfig(num_warps=num_warps, tile=tile, one_pass=-(-width // tile) <= MAX_TILES)


def shape_class(rows: int, width: int, itemsize: int, integer: bool) -> str:
    """Name the shapes that share a tuned configuration, e.g. ``int8-16bit-18944-128``: one width, and some rows.

    Args:
        rows: number of rows.
        width: columns of the result.
        itemsize: bytes of an input element.
        integer: whether the codes are INT8; else they are FP8.
    """
    return f"{'int8' if integer else 'fp8'}-{8 * itemsize}bit-{width}-{rows_class(rows)}"


def bytes_moved(rows: int, width: int, itemsize: int) -> int:
    """Count the bytes that must be moved for a result ``[rows, width]``: gate and up, a byte a code, four a scale."""
    return rows * width * (2 * itemsize + 1) + rows * 4
