"""In tiles of which shape are accumulators scaled back?

Nothing is computed twice and nothing is shared but the scales, so a tile has only to keep enough loads in flight and
to read whole cache lines. Column scales and bias are read once a tile, which several rows share.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from perf_kernels.tuned import rows_class

#: Below this many programs a launch does not fill a large GPU: then tiles are smaller.
FILLING_PROGRAMS = 1056


@dataclass(frozen=True)
class LaunchConfig:
    """How one launch cuts up the matrix.

    Attributes:
        block_rows: rows of a tile, a power of two.
        block_columns: columns of a tile, a power of two.
        num_warps: warps of a program, a power of two; a program makes one tile.
        group: tiles that follow each other down the rows before the next ones beside them. Programs that run at the
            same time then read longer pieces of the columns of transposed accumulators.
    """

    block_rows: int
    block_columns: int
    num_warps: int
    group: int = 1

    def tiles(self, rows: int, columns: int) -> int:
        """Give the number of tiles that cover ``[rows, columns]``."""
        return -(-rows // self.block_rows) * -(-columns // self.block_columns)


#: From the largest to the smallest. 256 columns are what a warp loads with two instructions of 16 bytes a thread.
ROW_MAJOR = (LaunchConfig(16, 256, 4), LaunchConfig(8, 256, 4), LaunchConfig(4, 256, 4))
#: Accumulators that come transposed are read along their columns and written along the rows: tiles are square.
COLUMN_MAJOR = (LaunchConfig(64, 64, 4), LaunchConfig(32, 64, 4), LaunchConfig(32, 32, 4))


@functools.lru_cache(maxsize=4096)
def launch_config(rows: int, columns: int, column_major: bool = False) -> LaunchConfig:
    """Choose the launch for a result ``[rows, columns]``.

    Args:
        rows: number of rows, at least 1.
        columns: number of columns, at least 1.
        column_major: neighbours in memory are in a column of the accumulators, not in a row.
    """
    configs = COLUMN_MAJOR if column_major else ROW_MAJOR
    return next((config for config in configs if config.tiles(rows, columns) >= FILLING_PROGRAMS), configs[-1])


def shape_class(rows: int, columns: int, column_major: bool, itemsize: int, acc_itemsize: int = 4) -> str:
    """Name the shapes that share a tuned configuration, e.g. ``row-major-16bit-3584-128``: one width, and some rows.

    Args:
        rows: number of rows.
        columns: number of columns.
        column_major: neighbours in memory are in a column of the accumulators, not in a row.
        itemsize: bytes of a result.
        acc_itemsize: bytes of an accumulator; those of 2 are named, ``row-major-16bit-from-16bit-…``.
    """
    types = f"{8 * itemsize}bit" if acc_itemsize == 4 else f"{8 * itemsize}bit-from-{8 * acc_itemsize}bit"
    return f"{'column' if column_major else 'row'}-major-{types}-{columns}-{rows_class(rows)}"


def bytes_moved(rows: int, columns: int, itemsize: int, bias_itemsize: int = 0, acc_itemsize: int = 4) -> int:
    """Count the bytes that must be moved: accumulators, results, each scale and the bias once.

    Args:
        rows: number of rows.
        columns: number of columns.
        itemsize: bytes of a result.
        bias_itemsize: bytes of a bias, 0 for none.
        acc_itemsize: bytes of an accumulator; those of 2 have no column scale.
    """
    column_scale = 4 if acc_itemsize == 4 else 0
    return rows * columns * (acc_itemsize + itemsize) + rows * 4 + columns * (column_scale + bias_itemsize)
