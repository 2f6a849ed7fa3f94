"""What does each operation of a kernel's Triton IR read and give? Reads the text of the IR."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

_NAME = r"%[\w$.-]+"
#: One result of several is named with its number.
_OPERAND = rf"{_NAME}(?:#\d+)?"
_ASSIGNED = re.compile(rf"^({_NAME}(?::\d+)?(?:, {_NAME}(?::\d+)?)*) = (.*)$")
_CARRIED = re.compile(rf"({_NAME}) = ({_NAME}(?:#\d+)?)")
#: What a block begins with, e.g. the body of a while: the names of its arguments.
_ARGUMENT = re.compile(rf"({_NAME}):")
_LOOPS = ("scf.for", "scf.while")
#: What gives a value that a loop carries its first value; one that the loop counts in; values that a block is given.
CARRY, COUNT, PASS = "scf: carries", "scf: counts in", "scf: passes on"
_NARROW = re.compile(r"\bi32$|xi32>$")
_PREDICATE = re.compile(r"^arith\.cmpi (\w+),")
#: What a comparison says of its second operand, by what it says of its first; ``eq`` and ``ne`` say the same.
MIRRORED = {f"{sign}{one}{end}": f"{sign}{other}{end}" for sign in "su" for one, other in ("lg", "gl") for end in "te"}
#: What says of a value that it holds (``tl.assume``).
ASSUME = "llvm.intr.assume"
#: A shift to the left is a product with a power of two.
_PRODUCTS = ("arith.muli", "arith.shli")
#: What is shifted may be too large; by how far it is shifted is a few bits.
_SHIFTS = ("arith.shli", "arith.shrsi", "arith.shrui")


@dataclass(frozen=True)
class Step:
    """One operation of the IR: its name, what it reads and gives, and whether its last type is i32.

    Attributes:
        line: of the IR.
        operation: e.g. ``arith.muli``, or ``CARRY``, ``COUNT`` or ``PASS``.
        operands: what it reads.
        results: what it gives.
        loop: of ``CARRY`` and ``COUNT`` the number of the loop.
        until: of ``COUNT`` what the counter is compared with, where that is known.
        predicate: of a comparison, or of ``COUNT`` that of the counter with ``until`` while the loop goes on: ``slt``.
        by: of the ``COUNT`` of a ``for`` what is added to the counter.
    """

    line: str
    operation: str
    operands: tuple[str, ...]
    results: frozenset[str]
    loop: int = 0
    until: str = ""
    by: str = ""
    predicate: str = ""

    @property
    def narrow(self) -> bool:
        """Tell whether the result is an i32, or a tensor of them."""
        return _NARROW.search(self.line) is not None

    @property
    def factors(self) -> tuple[str, ...]:
        """What the size of the result comes from."""
        return self.operands[:1] if self.operation in _SHIFTS else self.operands

    @property
    def product(self) -> bool:
        """Tell whether it is a product in 32 bits."""
        return self.operation in _PRODUCTS and self.narrow

    @property
    def wide_product(self) -> bool:
        """Tell whether it is a product in another type than 32 bits."""
        return self.operation in _PRODUCTS and not self.narrow


@dataclass
class _Region:
    """A region that is being read.

    Attributes:
        receives: where each value goes that the region yields: results of its operation, and what a loop carries.
        gives: where each value goes that the condition of a ``while`` passes on: its results.
        carried: what a ``while`` carries, by the names here.
        passed: what the condition of a ``while`` passes on to the loop's body.
        names: of the values defined in it, by the name in the IR.
        widened: what it makes wider, by the result.
        compared: each comparison in it by its result; several that must all hold by what is true where they do.
        loop: number of the loop.
    """

    receives: list[frozenset[str]] = field(default_factory=list)
    gives: list[frozenset[str]] = field(default_factory=list)
    carried: list[str] = field(default_factory=list)
    passed: tuple[str, ...] = ()
    names: dict[str, str] = field(default_factory=dict)
    widened: dict[str, str] = field(default_factory=dict)
    compared: dict[str, tuple[Step, ...]] = field(default_factory=dict)
    loop: int = 0


def steps(ttir: str) -> Iterator[Step]:
    """Read the IR line by line. What a region yields flows into the results and the carried values of its operation.

    Sibling regions use the same names for different values, so each value gets a name of its own here.

    Args:
        ttir: ``compiled.asm["ttir"]``.
    """
    regions = [_Region()]
    numbers = itertools.count(1)

    def define(name: str) -> str:
        regions[-1].names[name] = f"{name}@{next(numbers)}"
        return regions[-1].names[name]

    def resolve(name: str) -> str:
        return next((region.names[name] for region in reversed(regions) if name in region.names), name)

    for raw in ttir.splitlines():
        line = re.sub(r" loc\([^ ]*\)$", "", raw.strip())
        closed = regions.pop() if line.startswith("}") and len(regions) > 1 else _Region()
        if line.startswith("^"):
            # The body of a while; other regions with arguments combine two elements, and hold no addresses.
            arguments = [define(name) for name in _ARGUMENT.findall(line)]
            for passed, argument in zip(regions[-1].passed, arguments, strict=False):
                yield Step(line, PASS, (passed,), frozenset({argument}))
            continue
        match = _ASSIGNED.match(line)
        text = match[2] if match else line
        operation = text.split(" ", 1)[0]
        operands = tuple(resolve(name) for name in re.findall(_OPERAND, text))
        results = [define(name) for name in _results(match[1])] if match else []
        if operation == "scf.yield":
            yield from _flow(line, operation, operands, regions[-1].receives)
        elif operation.startswith("scf.condition("):
            region = regions[-1]
            region.passed = operands[1:]
            yield from _flow(line, operation, operands[1:], region.gives)
            yield from _counted(line, region, region.compared.get(operands[0], ()))
        elif (match and operation not in _LOOPS) or operation == ASSUME:
            compared, predicate = regions[-1].compared, _PREDICATE.match(text)
            step = Step(line, operation, operands, frozenset(results), predicate=predicate[1] if predicate else "")
            if operation == "arith.extsi" and operands:
                regions[-1].widened[results[0]] = operands[0]
            elif predicate and len(operands) == 2:
                compared[results[0]] = (step,)
            elif operation == "arith.cmpf":
                # What it says is not about a counter; what must hold beside it may be.
                compared[results[0]] = ()
            elif operation == "arith.andi" and set(operands) <= compared.keys():
                compared[results[0]] = tuple(dict.fromkeys(both for each in operands for both in compared[each]))
            yield step
        if line.endswith("{"):
            starts = [(name, resolve(start)) for name, start in _CARRIED.findall(text)] if operation in _LOOPS else []
            given = [frozenset({result}) for result in results]
            regions.append(_Region(closed.receives or given, passed=closed.passed, loop=next(numbers)))
            loop = regions[-1].loop
            carried = [define(name) for name, _ in starts]
            if operation == "scf.for":
                # The first is its counter, which no yield changes; it goes from the first operand to the next.
                regions[-1].receives = [frozenset(pair) for pair in zip(carried[1:], results, strict=False)]
            elif operation == "scf.while":
                regions[-1].receives, regions[-1].gives = [frozenset({value}) for value in carried], given
                regions[-1].carried = carried
            for number, (value, (_, start)) in enumerate(zip(carried, starts, strict=True)):
                if operation == "scf.for" and number == 0:
                    _, _, until, by = operands[:4]
                    yield Step(line, COUNT, (start,), frozenset({value}), loop, until, by, "slt")
                else:
                    yield Step(line, CARRY, (start,), frozenset({value}), loop)


def _results(names: str) -> Iterator[str]:
    """Give the name of each result on the left of an assignment, e.g. "%r#0" and "%r#1" of "%r:2"."""
    for name in names.split(", "):
        base, _, number = name.partition(":")
        yield from [f"{base}#{each}" for each in range(int(number))] if number else [base]


def _flow(line: str, operation: str, operands: Sequence[str], into: Sequence[frozenset[str]]) -> Iterator[Step]:
    """Give a step for each value that goes its own way."""
    for operand, results in zip(operands, into, strict=False):
        yield Step(line, operation, (operand,), results)


def _counted(line: str, region: _Region, comparisons: Sequence[Step]) -> Iterator[Step]:
    """Give a step for each value that a ``while`` counts in: those that its condition compares."""
    known = False
    for step in comparisons:
        left, right = (region.widened.get(each, each) for each in step.operands)
        mirrored = MIRRORED.get(step.predicate, step.predicate)
        for value, until, predicate in ((left, right, step.predicate), (right, left, mirrored)):
            if value in region.carried:
                known = True
                # Of two that are both carried, neither tells how far the other goes.
                end = "" if until in region.carried else until
                yield Step(line, COUNT, (), frozenset({value}), region.loop, end, predicate=predicate)
    if not known:
        # A condition that is not a comparison of what is carried may be about any of it.
        yield Step(line, COUNT, (), frozenset(region.carried), region.loop)
