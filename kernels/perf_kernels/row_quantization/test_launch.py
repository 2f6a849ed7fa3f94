"""Does a launch cover every row, and is the work counted that it does?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf_kernels.model_shapes import WIDTHS
from perf_kernels.row_quantization import bytes_moved, launch_config
from perf_kernels.row_tests import examples


@examples
@given(st.integers(1, 2**17), st.integers(1, 2**20), st.sampled_from([2, 4]), st.sampled_from([32, 64]))
def test_launch_covers_the_row(rows: int, width: int, itemsize: int, lanes: int) -> None:
    config = launch_config(rows, width, itemsize, lanes)
    assert config.num_warps in (1, 2, 4, 8, 16, 32)
    assert config.num_warps * lanes <= 1024
    # 16 bytes of input a thread.
    assert config.tile * itemsize == config.num_warps * lanes * 16
    assert (config.tiles(width) - 1) * config.tile < width <= config.tiles(width) * config.tile
    assert config.one_pass == (config.tiles(width) <= 10)


@pytest.mark.parametrize("width", [*WIDTHS, 37888])
def test_few_lanes_idle_at_the_widths_of_the_models(width: int) -> None:
    config = launch_config(65536, width, 2)
    assert config.one_pass
    assert 1 - width / (config.tiles(width) * config.tile) <= 0.08


def test_widths_of_the_grid() -> None:
    assert WIDTHS == (2048, 3072, 3584, 5120, 8192, 13824, 18944)


def test_bytes_moved() -> None:
    assert bytes_moved(rows=65536, width=18944, itemsize=2) == 65536 * (18944 * 3 + 4)
