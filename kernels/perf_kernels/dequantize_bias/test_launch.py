"""Does a launch cover the matrix, and is the work counted that it does?"""

from __future__ import annotations

import pytest

from perf_kernels.dequantize_bias import bytes_moved, launch_config
from perf_kernels.dequantize_bias.launch import shape_class


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
    assert bytes_moved(rows=100, columns=30, itemsize=2, bias_itemsize=2, acc_itemsize=2) == 100 * 30 * 4 + 400 + 60


def test_classes_of_launches() -> None:
    """Accumulators of 2 bytes have classes of their own, and those of 4 the names that they always had."""
    assert shape_class(100, 3584, False, 2) == shape_class(100, 3584, False, 2, 4) == "row-major-16bit-3584-128"
    assert shape_class(100, 3584, True, 2, 2) == "column-major-16bit-from-16bit-3584-128"
