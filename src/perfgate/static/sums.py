"""On which ways does what a loop carries come back to it with something added? Follows the steps of a kernel."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass

from perfgate.static.steps import CARRY, PASS, Step

#: What adds to a number.
ADDITIONS = ("arith.addi", "arith.subi")
#: What gives one of the numbers that it reads.
PASSES = ("arith.select", "scf.yield", "scf.condition", CARRY, PASS)
_ADDED, _SELECTED = 2, 3


@dataclass(frozen=True)
class Circle:
    """All ways in one round of a loop from a value that it carries to the same value in the next round.

    Attributes:
        steps: on these ways, in their order.
        values: on these ways, and the carried one.
        sources: other values that one of ``values`` may be instead, e.g. its first one.
    """

    steps: tuple[Step, ...]
    values: frozenset[str]
    sources: tuple[str, ...]

    @property
    def additions(self) -> tuple[Step, ...]:
        """The steps that add something."""
        return tuple(step for step in self.steps if step.operation in ADDITIONS)


class Sums:
    """What gives each value of a kernel, and what is a sum of it.

    Args:
        steps: of the kernel.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps
        self._given: dict[str, list[int]] = defaultdict(list)
        self._summed: dict[str, list[int]] = defaultdict(list)
        self._carried: dict[str, int] = {}
        self._circles: dict[str, Circle] = {}
        for number, step in enumerate(steps):
            for result in step.results:
                self._given[result].append(number)
                if step.operation == CARRY:
                    self._carried[result] = number
            for operand in summands(step):
                self._summed[operand].append(number)

    def given(self, value: str) -> Iterable[Step]:
        """Give the steps that a value may come from."""
        return (self._steps[number] for number in self._given.get(value, ()))

    def carried(self, value: str) -> Step | None:
        """Give the step that makes a value one that a loop carries, if any."""
        return self._steps[self._carried[value]] if value in self._carried else None

    def circle(self, value: str) -> Circle:
        """Find the ways on which a value that a loop carries comes back to it, inside of that loop."""
        if value not in self._circles:
            self._circles[value] = self._circle(value)
        return self._circles[value]

    def _circle(self, value: str) -> Circle:
        start, end = self._carried[value], self._given[value][-1]

        def inside(numbers: Iterable[int]) -> Iterable[Step]:
            return (self._steps[number] for number in numbers if start < number <= end)

        after = connected([value], lambda at: (result for step in inside(self._summed[at]) for result in step.results))
        before = connected([value], lambda at: (each for step in inside(self._given[at]) for each in summands(step)))
        values = frozenset(after & before | {value})
        numbers = sorted({number for each in values for number in self._summed[each] if start < number <= end})
        steps = tuple(step for step in map(self._steps.__getitem__, numbers) if not values.isdisjoint(step.results))
        sources = {
            operand: None
            for each in sorted(values)
            for step in self.given(each)
            if step.operation not in ADDITIONS
            for operand in summands(step)
            if operand not in values
        }
        return Circle(steps, values, tuple(sources))


def summands(step: Step) -> tuple[str, ...]:
    """Give what a step may give again, or with something added in 32 bits."""
    operands = step.operands
    if step.operation in ADDITIONS:
        known = step.narrow and len(operands) == _ADDED
        return operands[: 2 if step.operation == "arith.addi" else 1] if known else ()
    if step.operation == "arith.select":
        # What is chosen by is not among them.
        return operands[1:] if len(operands) == _SELECTED else ()
    return operands if step.operation.startswith(PASSES) else ()


def addend(step: Step, sums: Container[str]) -> str:
    """Give what an addition adds to one of some sums."""
    return step.operands[0 if step.operands[0] not in sums else 1]


def connected(values: Iterable[str], following: Callable[[str], Iterable[str]]) -> set[str]:
    """Collect what can be reached from values, which are in it only where a way leads to them."""
    found: set[str] = set()
    ahead = [*values]
    while ahead:
        more = set(following(ahead.pop())) - found
        found |= more
        ahead += more
    return found
