"""Between which numbers does the result of an operation lie, where its operands lie between known ones?"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

#: The largest number of 32 bits, and the lowest.
LIMIT = 2**31 - 1
LOWEST = -(2**31)
#: The widest shift of a number of 32 bits.
_BITS = 31


class Interval(NamedTuple):
    """The numbers from ``low`` to ``high``, both included."""

    low: int
    high: int

    @property
    def fits(self) -> bool:
        """Tell whether 32 bits hold all of them."""
        return self.low >= LOWEST and self.high <= LIMIT

    def plus(self, other: Interval) -> Interval:
        """Give where sums lie."""
        return Interval(self.low + other.low, self.high + other.high)

    def minus(self, other: Interval) -> Interval:
        """Give where differences lie."""
        return Interval(self.low - other.high, self.high - other.low)

    def times(self, other: Interval) -> Interval:
        """Give where products lie."""
        ends = [mine * its for mine in self for its in other]
        return Interval(min(ends), max(ends))

    def joined(self, other: Interval) -> Interval:
        """Give where the numbers of either lie."""
        return Interval(min(self.low, other.low), max(self.high, other.high))

    def repeated(self, rounds: int) -> Interval:
        """Give where sums of at most so many lie."""
        return Interval(min(self.low * rounds, 0), max(self.high * rounds, 0))

    def clamped(self) -> Interval:
        """Give those that 32 bits hold: what is computed is taken not to wrap."""
        return Interval(*(min(max(end, LOWEST), LIMIT) for end in self))


ZERO = Interval(0, 0)
#: A number of which nothing is known: sizes are not negative.
UNKNOWN = Interval(0, LIMIT)


def hull(intervals: Sequence[Interval]) -> Interval:
    """Give where the numbers of all lie; of none ``UNKNOWN``."""
    return functools.reduce(Interval.joined, intervals) if intervals else UNKNOWN


def computed(operation: str, operands: Sequence[Interval]) -> Interval:
    """Give where the result of an operation on two integers lies, which may be past 32 bits.

    Args:
        operation: e.g. ``arith.addi``.
        operands: where its operands lie.

    Returns:
        ``UNKNOWN`` for another operation.
    """
    known = _COMPUTED.get(operation)
    return known(*operands) if known and len(operands) == 2 else UNKNOWN


def knows(operation: str) -> bool:
    """Tell whether ``computed`` knows an operation."""
    return operation in _COMPUTED


def _divided(number: Interval, by: Interval) -> Interval:
    """What is divided by is not 0; as ``arith.divsi`` does, towards 0."""
    if by.low < 0:
        most = max(map(abs, number))
        return Interval(-most, most)
    least, most = max(by.low, 1), max(by.high, 1)
    return Interval(
        number.low // most if number.low >= 0 else -(-number.low // least),
        number.high // least if number.high >= 0 else -(-number.high // most),
    )


def _remainder(number: Interval, by: Interval) -> Interval:
    most = max(*map(abs, by), 1) - 1
    return Interval(max(min(number.low, 0), -most), min(max(number.high, 0), most))


def _least(one: Interval, other: Interval) -> Interval:
    return Interval(min(one.low, other.low), min(one.high, other.high))


def _largest(one: Interval, other: Interval) -> Interval:
    return Interval(max(one.low, other.low), max(one.high, other.high))


def _bits(by: Interval) -> Interval:
    return Interval(*(min(max(end, 0), _BITS) for end in by))


def _left(number: Interval, by: Interval) -> Interval:
    bits = _bits(by)
    return number.times(Interval(1 << bits.low, 1 << bits.high))


def _right(number: Interval, by: Interval) -> Interval:
    bits = _bits(by)
    return Interval(
        number.low >> (bits.high if number.low >= 0 else bits.low),
        number.high >> (bits.low if number.high >= 0 else bits.high),
    )


def _masked(one: Interval, other: Interval) -> Interval:
    masks = [each.high for each in (one, other) if each.low >= 0]
    return Interval(0, min(masks)) if masks else UNKNOWN


_COMPUTED: Mapping[str, Callable[[Interval, Interval], Interval]] = {
    "arith.addi": Interval.plus,
    "arith.subi": Interval.minus,
    "arith.muli": Interval.times,
    "arith.shli": _left,
    "arith.shrsi": _right,
    "arith.shrui": _right,
    "arith.divsi": _divided,
    "arith.divui": _divided,
    "arith.remsi": _remainder,
    "arith.remui": _remainder,
    "arith.minsi": _least,
    "arith.minui": _least,
    "arith.maxsi": _largest,
    "arith.maxui": _largest,
    "arith.andi": _masked,
    "arith.cmpi": lambda _one, _other: Interval(0, 1),
}
