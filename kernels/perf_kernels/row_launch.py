"""With how many warps, and in tiles of which width, does a program handle a row? One row a program.

A tile is what one instruction of every thread covers: 16 bytes of input a thread. A row is cut into equal tiles and
only the last may be masked, so no width pays for the next power of two: 18944 takes five tiles of 4096 (7.5 % idle
lanes), where one power-of-two block takes 32768 (42 % idle).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from perf_kernels.rows import LARGEST_CODE
from perf_kernels.target import current_target
from perf_kernels.tuned import Chooser, rows_class

#: Bytes that one thread loads with one instruction.
LOAD_BYTES = 16
#: A row stays in registers up to this many tiles: 40 registers a thread, of the 64 that 1024 threads leave.
MAX_TILES = 10
#: Below this many warps a launch does not fill a large GPU: then rows are spread over more threads, for latency.
FILLING_WARPS = 4096
#: Threads of a program, on NVIDIA and AMD.
MAX_THREADS = 1024


@dataclass(frozen=True)
class LaunchConfig:
    """How one launch cuts up a row.

    Attributes:
        num_warps: warps of a program, a power of two up to 32; a program handles one row.
        tile: columns handled at a time, a power of two.
        one_pass: keep the row in registers between the search for its largest value and the rounding. Otherwise the row
            is read twice, which no width is too large for.
    """

    num_warps: int
    tile: int
    one_pass: bool = True

    def tiles(self, width: int) -> int:
        """Give the number of tiles that cover a row of this width."""
        return -(-width // self.tile)


@functools.lru_cache(maxsize=4096)
def cut_rows(rows: int, width: int, itemsize: int, lanes: int, comfortable_tiles: int) -> LaunchConfig:
    """Choose the launch for a result ``[rows, width]``.

    Args:
        rows: number of rows, at least 1.
        width: columns of a row, at least 1.
        itemsize: bytes of an input element.
        lanes: threads of a warp (64 on AMD's CDNA).
        comfortable_tiles: warps are added until a thread holds at most this many tiles.
    """
    warp_columns = lanes * LOAD_BYTES // itemsize
    num_warps = 1
    while 2 * num_warps * lanes <= MAX_THREADS:
        tiles = -(-width // (num_warps * warp_columns))
        if tiles == 1 or (tiles <= comfortable_tiles and rows * num_warps >= FILLING_WARPS):
            break
        num_warps *= 2
    tile = num_warps * warp_columns
    return LaunchConfig(num_warps=num_warps, tile=tile, one_pass=-(-width // tile) <= MAX_TILES)


def shape_class(rows: int, width: int, itemsize: int, integer: bool) -> str:
    """Name the shapes that share a tuned configuration, e.g. ``int8-16bit-3584-128``: one width, and some rows.

    Args:
        rows: number of rows.
        width: columns of a row of the result.
        itemsize: bytes of an input element.
        integer: whether the codes are INT8; else they are FP8.
    """
    return f"{'int8' if integer else 'fp8'}-{8 * itemsize}bit-{width}-{rows_class(rows)}"


def row_chooser(kernel: str, launch_config: Callable[[int, int, int, int], LaunchConfig]) -> Chooser[LaunchConfig]:
    """Give what chooses a kernel's launch by rows, width, bytes of an input element and whether codes are INT8.

    Args:
        kernel: name of the kernel's folder.
        launch_config: gives the launch without tuning, by rows, width, bytes of an element and threads of a warp.
    """

    def fallback(rows: int, width: int, itemsize: int, integer: bool) -> LaunchConfig:
        return launch_config(rows, width, itemsize, current_target().lanes)

    return Chooser(kernel, fallback, shape_class)


def launch_rows(
    one_pass: Any, two_pass: Any, config: LaunchConfig, arguments: tuple[Any, ...], q: torch.Tensor
) -> None:
    """Launch one of two kernels, one program a row of ``q``.

    Args:
        one_pass: kernel that keeps a row in registers. After its ``arguments`` it takes Q, the columns of a tile, the
            number of tiles, and whether the last is masked.
        two_pass: kernel that reads a row twice; it masks every tile, and takes no more than their number.
        config: how to launch.
        arguments: of both.
        q: [M, K] codes.
    """
    rows, width = q.shape
    tiles = config.tiles(width)
    constants = (LARGEST_CODE[q.dtype], config.tile, tiles)
    if config.one_pass:
        ragged = tiles * config.tile != width
        one_pass[(rows,)](*arguments, *constants, ragged, num_warps=config.num_warps)
    else:
        two_pass[(rows,)](*arguments, *constants, num_warps=config.num_warps)
