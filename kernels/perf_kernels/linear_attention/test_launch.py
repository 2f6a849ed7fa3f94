"""Does every launch fit its GPU and cover the sequence, and is the work counted that it does?"""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf_kernels.linear_attention import LaunchConfig, bytes_moved, flops, launch_config
from perf_kernels.linear_attention.launch import check_warps, power_of_two, shared_bytes
from perf_kernels.linear_attention.strategies import examples
from perf_kernels.target import Target

TARGETS = [
    Target("cuda", 80, 32),
    Target("cuda", 89, 32),
    Target("cuda", 90, 32),
    Target("cuda", 100, 32),
    Target("cuda", 120, 32),
    Target("hip", "gfx942", 64),
    Target("hip", "gfx1100", 32),
    Target("interpreter", 0, 32),
]


@examples
@given(
    st.integers(1, 64),
    st.integers(1, 2**18),
    st.integers(1, 64),
    st.integers(1, 256),
    st.integers(1, 256),
    st.sampled_from([2, 4]),
    st.booleans(),
    st.sampled_from(TARGETS),
)
def test_launch_fits(
    batch: int, tokens: int, heads: int, keys: int, values: int, itemsize: int, normalize: bool, target: Target
) -> None:
    config = launch_config(batch, tokens, heads, keys, values, itemsize, normalize, target)
    for size in (config.chunk, config.value_block):
        assert 16 <= size == power_of_two(size) <= 64
    assert config.num_warps in (4, 8)
    check_warps(config, keys, target)
    assert 1 <= config.num_stages <= 3
    limit = 65_536 if target.backend == "hip" else {80: 166_912, 90: 232_448, 100: 232_448}.get(target.arch, 101_376)
    if target.backend != "interpreter":
        assert shared_bytes(config.chunk, config.value_block, keys, itemsize, 1) <= limit
    used, size = config.used_segments(tokens), config.segment_chunks(tokens)
    assert 1 <= used <= config.segments <= 32
    # No segment is empty, and together they cover the sequence.
    assert (used - 1) * size < config.chunks(tokens) <= used * size


def test_launches_on_the_h200() -> None:
    target = Target("cuda", 90, 32)
    full = launch_config(8, 4096, 8, 128, 128, 2, False, target)
    assert full == LaunchConfig(chunk=64, value_block=64, segments=1, num_warps=4, num_stages=3)
    # 16 programs would leave most of 132 multiprocessors idle; two of 16 segments' share one.
    long = launch_config(1, 32768, 8, 128, 128, 2, False, target)
    assert dataclasses.replace(long, segments=16) == LaunchConfig(64, 64, 16, 4, 2)
    assert long.segments == 16


def test_a_second_warp_group_needs_rows_of_its_own() -> None:
    hopper, ampere = Target("cuda", 90, 32), Target("cuda", 80, 32)
    with pytest.raises(ValueError, match="8 warps for products of 64 rows; on sm90 at most 4 are safe"):
        check_warps(LaunchConfig(chunk=64, num_warps=8), 128, hopper)
    with pytest.raises(ValueError, match="8 warps for products of 64 rows; on sm90 at most 4 are safe"):
        check_warps(LaunchConfig(chunk=128, num_warps=8), 64, hopper)
    check_warps(LaunchConfig(chunk=128, num_warps=8), 128, hopper)
    check_warps(LaunchConfig(chunk=64, num_warps=8), 128, ampere)


def test_work() -> None:
    assert bytes_moved(batch=2, tokens=3, heads=4, keys=5, values=6, itemsize=2) == 24 * 22 * 2
    assert flops(batch=2, tokens=3, heads=4, keys=5, values=6) == 24 * 4 * 30
