"""Does a launch cover the matrix, and is the work counted that it does?"""

from __future__ import annotations

import pytest

from perf_kernels.dequantize_bias import bytes_moved, launch_config


@pytest.mark.parametrize("column_major", [False, True])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (128, 3584), (512, 4608), (65536, 37888)])
def test_launch_covers_the_matrix(rows: int, columns: int, column_major: bool) -> None:
    config = launch_config(rows, columns, column_major)
    across = -(-columns // config.block_columns)
    assert config.tiles(rows, columns) % across == 0
    assert config.tiles(rows, columns) // across * config.block_rows >= rows
    assert config.tiles(rows, columns) < 2**31


def test_bytes_moved() -> None:
    assert bytes_moved(rows=100, columns=30, itemsize=2, bias_itemsize=2) == 100 * 30 * 6 + 400 + 180
