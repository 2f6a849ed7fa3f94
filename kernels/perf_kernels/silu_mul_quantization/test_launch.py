"""Does a launch cover every row, and is the work counted that it does?"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from perf_kernels.row_tests import examples
from perf_kernels.silu_mul_quantization import bytes_moved, launch_config


@examples
@given(st.integers(1, 2**17), st.integers(1, 2**20), st.sampled_from([2, 4]), st.sampled_from([32, 64]))
def test_launch_covers_the_row(rows: int, width: int, itemsize: int, lanes: int) -> None:
    config = launch_config(rows, width, itemsize, lanes)
    assert config.num_warps * lanes <= 1024
    # 16 bytes of gate a thread.
    assert config.tile * itemsize == config.num_warps * lanes * 16
    assert (config.tiles(width) - 1) * config.tile < width <= config.tiles(width) * config.tile
    assert config.one_pass == (config.tiles(width) <= 10)


def test_bytes_moved() -> None:
    assert bytes_moved(rows=65536, width=18944, itemsize=2) == 65536 * (18944 * 5 + 4)
