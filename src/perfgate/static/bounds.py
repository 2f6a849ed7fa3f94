"""How large can a number of a kernel become, and what does a loop add to it? Reads the steps of its Triton IR.

Bounds are rough, and of magnitudes. An argument, and what is loaded, is any number of 32 bits, unless ``tl.assume``
says how large it is at most. Sizes are not negative, and a sum of them does not wrap.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from perfgate.static.steps import ASSUME, CARRY, COUNT, PASS, Step

#: The largest number of 32 bits.
LIMIT = 2**31 - 1
_CONSTANT = re.compile(r"^%.* = arith\.constant (?:dense<)?(-?\d+)>? :")
_RANGE_END = re.compile(r"\bend = (\d+)")
_COMPARED = re.compile(r"arith\.cmpi [su]l([et]),")
#: What gives the number that it reads, in another shape or type.
_SAME = (
    "tt.splat", "tt.broadcast", "tt.expand_dims", "tt.reshape", "tt.trans", "arith.extsi", "arith.extui", "arith.trunci"
)  # fmt: skip
#: What leads from one round of a loop to the next with something added, or nothing.
_SUMS = ("arith.addi", "arith.subi")
_ADDS = (*_SUMS, "arith.select", "scf.yield", CARRY, PASS)
#: How large a number is that is computed from others, by the largest of those.
_LARGEST: Mapping[str, Callable[..., int]] = {
    "arith.addi": lambda a, b: a + b,
    "arith.subi": max,
    "arith.muli": lambda a, b: a * b,
    "arith.shli": lambda a, bits: a << min(bits, 31),
    "arith.minsi": min,
    "arith.minui": min,
    "arith.maxsi": max,
    "arith.maxui": max,
    "arith.remsi": lambda a, b: min(a, max(b - 1, 0)),
    "arith.remui": lambda a, b: min(a, max(b - 1, 0)),
}
_COMPUTED = frozenset(
    ("arith.constant", "tt.make_range", "tt.get_num_programs", "tt.get_program_id", COUNT, *_LARGEST, *_SAME, *_ADDS)
)
#: Numbers that are computed from others in more steps than this have no bound.
_DEEPEST = 64


@dataclass(frozen=True)
class Increment:
    """What a loop adds to a 32-bit number that it carries.

    Attributes:
        step: the addition.
        added: the largest magnitude of what is added.
        rounds: how often, at most.
        stride: what is added is computed from constants and arguments, not from what was loaded.
        beside: the same is added to what the loop counts in, which stays a number of 32 bits.
    """

    step: Step
    added: int
    rounds: int
    stride: bool
    beside: bool

    @property
    def far(self) -> bool:
        """Tell whether strides alone may add up to more than 32 bits hold."""
        return self.stride and not self.beside and self.added * self.rounds > LIMIT


class Bounds:
    """Bounds of the numbers of one kernel.

    Args:
        steps: of the kernel.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self._given: dict[str, list[Step]] = defaultdict(list)
        self._added: dict[str, list[Step]] = defaultdict(list)
        self._counts: dict[int, list[Step]] = defaultdict(list)
        for step in steps:
            for result in step.results:
                self._given[result].append(step)
            for operand in _summands(step):
                self._added[operand].append(step)
            if step.operation == COUNT:
                self._counts[step.loop].append(step)
        self._largest: dict[str, int] = {}
        self._depth = 0
        self._assumed = dict(self._assumptions(steps))

    def largest(self, value: str) -> int:
        """Give the largest magnitude of a value; ``LIMIT`` of one of 32 bits of which nothing is known."""
        if value not in self._largest and self._depth < _DEEPEST:
            # What a loop computes from what it computed before, other than a sum, has no bound.
            self._largest[value] = LIMIT
            self._depth += 1
            self._largest[value] = min(self._known(value), self._assumed.get(value, LIMIT))
            self._depth -= 1
        return self._largest.get(value, LIMIT)

    def product(self, step: Step) -> int:
        """Give the largest magnitude of a product, which may be past ``LIMIT``."""
        return _LARGEST[step.operation](*map(self.largest, step.operands))

    def increments(self, carried: Step) -> list[Increment]:
        """Give what a loop adds to a 32-bit number that it carries, and that is not what it counts in.

        Args:
            carried: the step that gives the number its first value.
        """
        (value,) = carried.results
        sums = [] if self._counter(value) else self._sums(value)
        rounds = self._rounds(carried.loop) if sums else 0
        counted = {self._source(each) for each in self._counted_by(carried.loop)} if sums else set()
        return [
            Increment(step, self.largest(added), rounds, self._is_stride(added), self._source(added) in counted)
            for step, added in sums
        ]

    def _assumptions(self, steps: Sequence[Step]) -> Iterator[tuple[str, int]]:
        for step in steps:
            for compared in self._given.get(step.operands[0], ()) if step.operation == ASSUME else ():
                match = _COMPARED.search(compared.line)
                most = self._constant(compared.operands[-1])
                if match and most is not None:
                    yield compared.operands[0], most - (match[1] == "t")

    def _constant(self, value: str) -> int | None:
        """Give the value of a constant, or of all elements of one."""
        given = self._given.get(self._source(value), ())
        match = _CONSTANT.match(given[0].line) if given else None
        return int(match[1]) if match else None

    def _source(self, value: str) -> str:
        """Give what a value is another shape or type of."""
        given = self._given.get(value, ())
        return self._source(given[0].operands[0]) if given and given[0].operation in _SAME else value

    def _known(self, value: str) -> int:
        given = self._given.get(value, ())
        counter = self._counter(value)
        if counter is not None:
            return max(map(self.largest, (*counter.operands, counter.until))) if counter.until else LIMIT
        for step in given:
            if step.operation == CARRY and (found := self.increments(step)):
                return min(self.largest(step.operands[0]) + sum(each.added * each.rounds for each in found), LIMIT)
        return max(map(self._of, given), default=LIMIT)

    def _of(self, step: Step) -> int:
        """Give the largest magnitude of what a step gives."""
        operation, operands = step.operation, step.operands
        if operation in _LARGEST:
            return min(_LARGEST[operation](*map(self.largest, operands)), LIMIT)
        if operation in _SAME or operation.startswith(("scf.yield", "scf.condition", CARRY, PASS)):
            return self.largest(operands[0])
        if operation == "arith.select":
            return max(map(self.largest, operands[1:]))
        if operation in ("arith.divsi", "arith.divui"):
            return self.largest(operands[0]) // max(abs(self._constant(operands[1]) or 1), 1)
        if operation in ("arith.shrsi", "arith.shrui"):
            return self.largest(operands[0]) >> max(self._constant(operands[1]) or 0, 0)
        if operation == "arith.andi":
            masks = [mask for mask in map(self._constant, operands) if mask is not None and mask >= 0]
            return min(masks, default=LIMIT)
        if operation == "tt.make_range":
            end = _RANGE_END.search(step.line)
            return int(end[1]) if end else LIMIT
        # So few that a product with a counter is the number of a program.
        if operation in ("tt.get_num_programs", "arith.cmpi"):
            return 1
        constant = _CONSTANT.match(step.line)
        return abs(int(constant[1])) if constant else LIMIT

    def _is_stride(self, value: str) -> bool:
        """Tell whether a value is computed from constants, arguments and what loops count in alone."""
        behind = {value} | _connected(
            value, lambda at: (operand for step in self._given.get(at, ()) for operand in step.operands)
        )
        return all(
            step.operation in _COMPUTED or step.operation.startswith(("arith.div", "arith.shr"))
            for at in behind
            for step in self._given.get(at, ())
        )

    def _counter(self, value: str) -> Step | None:
        """Give the step that makes a value what a loop counts in, if any."""
        return next((step for step in self._given.get(value, ()) if step.operation == COUNT), None)

    def _counted_by(self, loop: int) -> Iterator[str]:
        """Give what is added to what a loop counts in."""
        for step in self._counts[loop]:
            if step.by:
                yield step.by
            elif step.until:
                (value,) = step.results
                yield from (added for _, added in self._sums(value))

    def _rounds(self, loop: int) -> int:
        """Give how often a loop goes round, at most."""
        steps = [self._constant(each) or 1 for each in self._counted_by(loop)]
        known = [self.largest(step.until) for step in self._counts[loop] if step.until]
        return min(known, default=LIMIT) // max(min(map(abs, steps), default=1), 1)

    def _sums(self, value: str) -> list[tuple[Step, str]]:
        """Give the additions in 32 bits between what a loop carries in one round and in the next, and what they add."""
        after = _connected(value, lambda at: (result for step in self._added[at] for result in step.results))
        circle = after & _connected(
            value, lambda at: (operand for step in self._given.get(at, ()) for operand in _summands(step))
        )
        return [
            (step, step.operands[1 - index])
            for at in sorted(circle)
            for step in self._added[at]
            if step.operation in _SUMS and not circle.isdisjoint(step.results)
            for index in range(2)
            if step.operands[index] == at
        ]


def _summands(step: Step) -> tuple[str, ...]:
    """Give what a step may give again with something added."""
    if not step.operation.startswith((*_ADDS, "scf.condition")) or (step.operation in _SUMS and not step.narrow):
        return ()
    return step.operands[:1] if step.operation == "arith.subi" else step.operands


def _connected(value: str, following: Callable[[str], Iterator[str]]) -> set[str]:
    """Collect what can be reached from a value, which is in it only where a way leads back."""
    found: set[str] = set()
    ahead = [value]
    while ahead:
        more = set(following(ahead.pop())) - found
        found |= more
        ahead += more
    return found
