"""How many tokens of the cache are looked at in one step, and by how many warps?"""

from __future__ import annotations

import functools
from dataclasses import dataclass

#: Rows of the tensor cores' smallest product: heads of queries are padded to as many.
ROWS = 16
#: Programs that may share a head of keys and values, a power of two.
MOST_SPLITS = 16


@dataclass(frozen=True)
class LaunchConfig:
    """How one launch goes through the cache.

    Attributes:
        block: tokens of a step, a power of two from 16.
        num_warps: warps of a program.
        num_stages: steps in flight.
        splits: programs that share a head of keys and values where there is a workspace, 1 to ``MOST_SPLITS``.
    """

    block: int
    num_warps: int
    num_stages: int
    splits: int = 1


@functools.lru_cache(maxsize=64)
def launch_config(length: int, width: int, cramped: bool = False) -> LaunchConfig:
    """Choose the launch for a cache of ``length`` tokens and heads of ``width`` columns.

    Operands of AMD's RDNA take twice the registers (``cramped``).

    There are few programs, each waits for memory most of the time, and none may hold more than a multiprocessor's
    shared memory: two tiles of keys and values of 128 columns in flight take 64 KiB.
    """
    block = (64 if width <= 128 else 32) // (4 if cramped else 1)
    num_warps = 8 if cramped else 4
    block = min(max(block, 16), max(16, power_of_two(length)))
    # One tile each, if there are enough: 8 heads of keys and values by 16 fill a large GPU (H200: 132 multiprocessors).
    return LaunchConfig(block, num_warps, num_stages=2, splits=min(MOST_SPLITS, power_of_two(-(-length // block))))


def shape_class(length: int, width: int) -> str:
    """Name the shapes that share a tuned configuration, e.g. ``1024-128``."""
    return f"{power_of_two(length)}-{width}"


def bytes_moved(batch: int, heads: int, kv_heads: int, width: int, position: int, itemsize: int) -> int:
    """Count the bytes that one step must move: projections, cache before and new token, outputs."""
    return batch * width * itemsize * ((2 * heads + 2 * kv_heads) + 2 * kv_heads * (position + 1))


def power_of_two(number: int) -> int:
    """Give the smallest power of two that is not below a number."""
    return 1 << max(number - 1, 0).bit_length()
