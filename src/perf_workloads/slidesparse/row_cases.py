"""Which goals are the kernels that go over rows held to, and how is a call held to one?

Imported by cases at collection: torch is imported where it is used.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

#: Share of the copy bandwidth from so many bytes on, and time of so many tokens.
LARGE_BYTES, LARGE_SHARE = 256e6, 0.95
SMALL_TOKENS, SMALL_S = 128, 6e-6


def code_type(codes: str) -> Any:
    """Give torch's type for "int8" or "fp8"."""
    import torch

    return {"int8": torch.int8, "fp8": torch.float8_e4m3fn}[codes]


def assert_reaches_the_copy_bandwidth(
    call: Callable[..., Any], arguments: Sequence[Any], bytes_moved: float, *, floor: float = 0.0
) -> None:
    """Fail unless a call on the GPU moves its bytes at LARGE_SHARE of what a copy reaches.

    Args:
        call: takes the arguments.
        arguments: on the GPU.
        bytes_moved: by a call.
        floor: a share below which a goal that is expected to be missed is missed by more than ever.
    """
    import pytest
    import torch

    from perfgate.measure.bandwidth import device_copy_bandwidth
    from perfgate.measure.device import time_device

    taken = time_device(call, tuple(arguments), budget_s=0.1).median_s
    share = bytes_moved / taken / device_copy_bandwidth(torch.cuda.current_device())
    told = f"{taken * 1e6:.1f} us a call, {share:.1%} of the copy bandwidth"
    if share < floor:
        pytest.fail(told)
    assert share >= LARGE_SHARE, told


def assert_quick(call: Callable[..., Any], arguments: Sequence[Any], *, ceiling_s: float = math.inf) -> None:
    """Fail unless a call on the GPU takes less than SMALL_S.

    Args:
        call: takes the arguments.
        arguments: on the GPU.
        ceiling_s: seconds above which a goal that is expected to be missed is missed by more than ever.
    """
    import pytest

    from perfgate.measure.device import time_device

    taken = time_device(call, tuple(arguments), budget_s=0.1).median_s
    told = f"{taken * 1e6:.2f} us a call"
    if taken > ceiling_s:
        pytest.fail(told)
    assert taken < SMALL_S, told


def in_turns(ours: Callable[[Any], Any], theirs: Callable[[Any], Any], x: Any) -> tuple[float, float]:
    """Give the device time of both, in seconds: medians of three rounds with a cold L2, taken in turns."""
    from perfgate.measure.device import time_device

    rounds = [[time_device(call, (x,), budget_s=0.05).median_s for call in (ours, theirs)] for _ in range(3)]
    return statistics.median(first for first, _ in rounds), statistics.median(second for _, second in rounds)
