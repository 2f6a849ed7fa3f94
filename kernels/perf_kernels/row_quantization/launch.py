"""With how many warps, and in tiles of which width, is a row quantised? As :mod:`perf_kernels.row_launch` says."""

from __future__ import annotations

from perf_kernels.row_launch import LaunchConfig, cut_rows

#: Warps are added until a thread holds at most this many tiles, which keeps a thread at 48 registers or fewer on sm_90.
COMFORTABLE_TILES = 7


def launch_config(rows: int, width: int, itemsize: int, lanes: int = 32) -> LaunchConfig:
    """Choose the launch for a matrix ``[rows, width]``.

    Args:
        rows: number of rows, at least 1.
        width: columns of a row, at least 1.
        itemsize: bytes of an input element.
        lanes: threads of a warp (64 on AMD's CDNA).
    """
    return cut_rows(rows, width, itemsize, lanes, COMFORTABLE_TILES)


def bytes_moved(rows: int, width: int, itemsize: int) -> int:
    """Count the bytes that quantising ``[rows, width]`` must move: the input, one byte a code, four bytes a scale."""
    return rows * width * (itemsize + 1) + rows * 4
