"""Does a launch cover the matrix, and is the work counted that it does?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from perf_kernels.dequantize_bias import bytes_moved, launch_config
from perf_kernels.dequantize_bias.launch import shape_class
from perf_kernels.dequantize_bias.tuning import TUNABLE


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


@pytest.mark.parametrize("column_major", [False, True])
@pytest.mark.parametrize("rows", [128, 512, 16384])
def test_no_two_candidates_are_the_same_launch(rows: int, column_major: bool) -> None:
    """A group of more tiles than there are down the rows is one of all of them."""
    tried = [
        replace(config, group=min(config.group, config.tiles(rows, 1)))
        for config in TUNABLE.candidates(rows, 3584, column_major, 2)
    ]
    assert len(tried) == len(set(tried))
    assert any(config.group > 1 for config in tried) == (column_major and rows > 128)
