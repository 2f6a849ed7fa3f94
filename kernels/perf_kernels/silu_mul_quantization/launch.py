"""With how many warps, and in tiles of which width, is a row activated and quantised?

As :mod:`perf_kernels.row_launch` says, by the columns of the result: a tile is 16 bytes of gate a thread, and as much
of up. Products are kept rounded to the input's type, so that a row takes no more registers than one half of the input.
"""

from __future__ import annotations

from perf_kernels.row_launch import LaunchConfig, cut_rows

#: Warps are added until a thread holds at most this many tiles: 40 registers for gate and up while they are loaded.
COMFORTABLE_TILES = 5


def launch_config(rows: int, width: int, itemsize: int, lanes: int = 32) -> LaunchConfig:
    """Choose the launch for a result ``[rows, width]``.

    Args:
        rows: number of rows, at least 1.
        width: columns of the result, half those of the input, at least 1.
        itemsize: bytes of an input element.
        lanes: threads of a warp (64 on AMD's CDNA).
    """
    return cut_rows(rows, width, itemsize, lanes, COMFORTABLE_TILES)


def bytes_moved(rows: int, width: int, itemsize: int) -> int:
    """Count the bytes that must be moved for a result ``[rows, width]``: gate and up, a byte a code, four a scale."""
    return rows * width * (2 * itemsize + 1) + rows * 4
