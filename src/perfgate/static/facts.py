"""What does a kernel's Triton IR say of a number outright? Constants, copies, what is assumed, what is rounded up."""

from __future__ import annotations

import re
from collections.abc import Iterator

from perfgate.static.intervals import UNKNOWN, Interval
from perfgate.static.steps import MIRRORED, Step
from perfgate.static.sums import Sums, connected

#: What gives the number that it reads, in another shape or type.
SAME = (
    "tt.splat", "tt.broadcast", "tt.expand_dims", "tt.reshape", "tt.trans", "arith.extsi", "arith.extui", "arith.trunci"
)  # fmt: skip
#: How far past the other number one is at most, or at least, of which a comparison holds.
UP = {"slt": -1, "ult": -1, "sle": 0, "ule": 0, "eq": 0}
DOWN = {MIRRORED.get(predicate, predicate): -past for predicate, past in UP.items()}
_TWO = 2
_CONSTANT = re.compile(r"^%.* = arith\.constant (?:dense<)?(-?\d+)>? :")
_RANGE = re.compile(r"\bend = (\d+) : i32, start = (\d+)")


def written(step: Step) -> Interval:
    """Give where the result of a step lies that is written in the step: a constant, a range of numbers."""
    if made := _RANGE.search(step.line) if step.operation == "tt.make_range" else None:
        return Interval(int(made[2]), int(made[1]) - 1)
    constant = _CONSTANT.match(step.line)
    return Interval(int(constant[1]), int(constant[1])) if constant else UNKNOWN


def source(sums: Sums, value: str) -> str:
    """Give what a value is another shape or type of."""
    while (step := next(iter(sums.given(value)), None)) and step.operation in SAME and step.operands:
        (value, *_) = step.operands
    return value


def assumed(sums: Sums, step: Step) -> Iterator[tuple[str, int]]:
    """Give the numbers that are at most a constant where what a step reads is true, and the constant."""
    said = {*step.operands} | connected(
        step.operands,
        lambda at: (each for both in sums.given(at) if both.operation == "arith.andi" for each in both.operands),
    )
    for each in (given for operand in sorted(said) for given in sums.given(operand)):
        if each.predicate and len(each.operands) == _TWO:
            left, right = each.operands
            mirrored = MIRRORED.get(each.predicate, each.predicate)
            for value, other, predicate in ((left, right, each.predicate), (right, left, mirrored)):
                most = _constant(sums, other)
                if most is not None and predicate in UP:
                    yield source(sums, value), most + UP[predicate]


def rounded_up(sums: Sums, step: Step) -> str:
    """Give what a division rounds up, or "". It divides the sum of that and of what it divides by less one."""
    number, by = step.operands if len(step.operands) == _TWO else ("", "")
    for total in sums.given(number):
        if total.operation == "arith.addi" and len(total.operands) == _TWO:
            for one, other in (total.operands, total.operands[::-1]):
                if any(is_less_one(sums, less, by) for less in sums.given(other)):
                    return one
    return ""


def ahead(sums: Sums, start: str, until: str) -> Iterator[str]:
    """Give numbers that one value lies before another one at most: of ``start + number``, or the least of such."""
    least = [each for step in sums.given(until) if step.operation == "arith.minsi" for each in step.operands]
    for step in (step for each in (until, *least) for step in sums.given(each)):
        if step.operation == "arith.addi" and start in step.operands:
            yield step.operands[1 if step.operands[0] == start else 0]


def rounds_down(sums: Sums, step: Step) -> bool:
    """Tell whether a step subtracts the remainder of a number from it."""
    number, by = step.operands if len(step.operands) == _TWO else ("", "")
    return any(each.operation.startswith("arith.rem") and each.operands[:1] == (number,) for each in sums.given(by))


def is_less_one(sums: Sums, step: Step, value: str) -> bool:
    """Tell whether a step subtracts one from a value."""
    one = {"arith.subi": 1, "arith.addi": -1}.get(step.operation)
    known = one is not None and len(step.operands) == _TWO
    return known and step.operands[0] == value and _constant(sums, step.operands[1]) == one


def _constant(sums: Sums, value: str) -> int | None:
    """Give the value of a constant, or of all elements of one."""
    step = next(iter(sums.given(source(sums, value))), None)
    low, high = written(step) if step and step.operation == "arith.constant" else UNKNOWN
    return low if low == high else None
