"""What does a loop add to a 32-bit number that it carries, and can that pass 32 bits?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

from perfgate.static.bounds import Bounds
from perfgate.static.facts import source
from perfgate.static.steps import CARRY, COUNT, Step
from perfgate.static.sums import Circle, Sums, addend


@dataclass(frozen=True)
class Increments:
    """What a loop adds to a number that it carries, and that is not what it counts in.

    Attributes:
        strides: the additions of strides.
        only: there are no other additions.
        far: the strides alone may add up to more than 32 bits hold.
    """

    strides: frozenset[Step]
    only: bool
    far: bool


def increments(
    steps: Sequence[Step], values: Set[str], sums: Sums, bounds: Bounds
) -> Iterator[tuple[Step, Increments]]:
    """Give the steps that give a carried number its first value, with what a loop adds to it, if anything.

    Args:
        steps: of the kernel.
        values: the numbers to look at.
        sums: of the steps.
        bounds: of the steps.
    """
    counts = [step for step in steps if step.operation == COUNT]
    counted = {value for step in counts for value in step.results}
    for step in steps:
        (value,) = step.results if step.operation == CARRY else ("",)
        if value not in values or value in counted or not (circle := sums.circle(value)).additions:
            continue
        added = {each: addend(each, circle.values) for each in circle.additions}
        strides = frozenset(each for each, what in added.items() if bounds.strides.has(what))
        beside = _is_beside(sums, circle, [count for count in counts if count.loop == step.loop])
        far = not beside and not bounds.change(value, strides=True).repeated(bounds.rounds(step.loop)).fits
        yield step, Increments(strides, len(strides) == len(added), far)


def _is_beside(sums: Sums, circle: Circle, counts: Sequence[Step]) -> bool:
    """Tell whether each round adds the same once to a value as to what the loop counts in, a number of 32 bits."""
    by = {source(sums, each) for count in counts for each in _counted_by(sums, count)}
    once = len(circle.additions) == 1 and all(step.operation != CARRY for step in circle.steps)
    return once and source(sums, addend(circle.additions[0], circle.values)) in by


def _counted_by(sums: Sums, count: Step) -> Iterator[str]:
    """Give what is added to what a loop counts in."""
    if count.by:
        yield count.by
    elif count.until:
        (value,) = count.results
        circle = sums.circle(value)
        yield from (addend(step, circle.values) for step in circle.additions)
