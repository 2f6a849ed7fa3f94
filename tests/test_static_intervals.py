"""Do intervals hold the result of every operation on numbers that they hold?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest

from perfgate.static.intervals import LIMIT, LOWEST, UNKNOWN, Interval, computed

#: From each of these to each that is not lower.
ENDS = (-5, -2, 0, 1, 3, 6)
INTERVALS = [Interval(low, high) for low, high in itertools.product(ENDS, ENDS) if low <= high]
SIZES = [each for each in INTERVALS if each.low >= 0]
OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "arith.addi": lambda one, other: one + other,
    "arith.subi": lambda one, other: one - other,
    "arith.muli": lambda one, other: one * other,
    "arith.divsi": lambda one, other: math.trunc(one / other),
    "arith.remsi": lambda one, other: int(math.fmod(one, other)),
    "arith.minsi": min,
    "arith.maxsi": max,
    "arith.shli": lambda one, other: one << other,
    "arith.shrsi": lambda one, other: one >> other,
    "arith.andi": lambda one, other: one & other,
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_results_lie_inside(operation: str) -> None:
    """A number is divided by one that is not 0, and shifted by one that is not negative."""
    seconds = SIZES if operation.startswith("arith.sh") else INTERVALS
    for first, second in itertools.product(INTERVALS, seconds):
        low, high = computed(operation, (first, second))
        if operation == "arith.andi" and max(first.low, second.low) < 0:
            # Of two that may be negative nothing is known.
            continue
        for one, other in itertools.product(range(first.low, first.high + 1), range(second.low, second.high + 1)):
            if other or operation not in ("arith.divsi", "arith.remsi"):
                assert low <= OPERATIONS[operation](one, other) <= high, (first, one, second, other)


@pytest.mark.parametrize(
    ("operation", "first", "second", "expected"),
    [
        ("arith.divsi", UNKNOWN, Interval(1024, 1024), Interval(0, 2**21 - 1)),
        ("arith.divsi", UNKNOWN, UNKNOWN, UNKNOWN),
        ("arith.remsi", UNKNOWN, Interval(4, 4), Interval(0, 3)),
        ("arith.andi", UNKNOWN, Interval(7, 7), Interval(0, 7)),
        ("arith.andi", Interval(-8, -8), UNKNOWN, UNKNOWN),
        ("arith.shrsi", UNKNOWN, Interval(10, 10), Interval(0, 2**21 - 1)),
        ("arith.shrsi", UNKNOWN, Interval(1024, 1024), Interval(0, 0)),
        ("arith.muli", UNKNOWN, Interval(-2, 3), Interval(-2 * LIMIT, 3 * LIMIT)),
        ("arith.cmpi", UNKNOWN, UNKNOWN, Interval(0, 1)),
        ("arith.xori", Interval(1, 1), Interval(1, 1), UNKNOWN),
    ],
)
def test_no_wider_than_they_must_be(operation: str, first: Interval, second: Interval, expected: Interval) -> None:
    assert computed(operation, (first, second)) == expected


def test_what_32_bits_hold() -> None:
    assert Interval(LOWEST, LIMIT).fits
    assert not Interval(0, LIMIT + 1).fits
    assert not Interval(LOWEST - 1, 0).fits
    assert Interval(-(2**40), 2**40).clamped() == (LOWEST, LIMIT)
    assert Interval(-(2**40), -(2**39)).clamped() == (LOWEST, LOWEST)


def test_some_rounds_or_none() -> None:
    assert Interval(2, 3).repeated(4) == (0, 12)
    assert Interval(-2, 3).repeated(4) == (-8, 12)
    assert Interval(-3, -2).repeated(0) == (0, 0)
