"""Does a kernel compute an address in 32 bits that can pass 2**31? Reads it off its Triton IR."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

_NAME = r"%[\w$.-]+"
#: One result of several is named with its number.
_OPERAND = rf"{_NAME}(?:#\d+)?"
_ASSIGNED = re.compile(rf"^({_NAME}(?::\d+)?(?:, {_NAME}(?::\d+)?)*) = (.*)$")
_CARRIED = re.compile(rf"({_NAME}) = ({_NAME}(?:#\d+)?)")
#: A shift to the left is a product with a power of two.
_PRODUCTS = ("arith.muli", "arith.shli")
#: What is shifted may be too large; by how far it is shifted is a few bits.
_SHIFTS = ("arith.shli", "arith.shrsi", "arith.shrui")
#: What lies at an address says nothing about where it lies, nor does a comparison of how large a number is.
_ENDS = ("tt.load", "tt.descriptor_load", "arith.cmpi", "arith.cmpf")
#: Known when a kernel is compiled; or so few that a product with a counter is the number of a program.
_BOUNDED = ("arith.constant", "tt.make_range", "tt.get_num_programs")
#: What a block begins with, e.g. the body of a while: the names of its arguments.
_ARGUMENT = re.compile(rf"({_NAME}):")
_LOOPS = ("scf.for", "scf.while")
#: What gives a value that a loop carries its first value; one that the loop counts in; values that a block is given.
_CARRY, _COUNT, _PASS = "scf: carries", "scf: counts in", "scf: passes on"
_NARROW = re.compile(r"\bi32$|xi32>$")


@dataclass(frozen=True)
class _Step:
    """One operation of the IR: its name, what it reads and gives, and whether its last type is i32."""

    line: str
    operation: str
    operands: tuple[str, ...]
    results: frozenset[str]

    @property
    def narrow(self) -> bool:
        return _NARROW.search(self.line) is not None

    @property
    def factors(self) -> tuple[str, ...]:
        """What the size of the result comes from."""
        return self.operands[:1] if self.operation in _SHIFTS else self.operands


def narrow_offsets(ttir: str) -> list[str]:
    """List the lines of a kernel's Triton IR that compute an address from a 32-bit product that can be too large.

    A line is listed when it adds an i32 offset that comes from program id x anything to a pointer, or when it
    multiplies the program id or the counter of a loop in i32 with a value known only at run time (a stride), whatever
    becomes of the product. A shift to the left counts as a product. A counter times a constant is not listed:
    that is how a loop walks along a row, tile by tile. The counter of a ``while`` is what its condition compares.

    Args:
        ttir: ``compiled.asm["ttir"]``.
    """
    steps = list(_steps(ttir))
    constants = _reached(
        steps,
        lambda step, found: (
            step.operation in _BOUNDED
            # What a region carries or yields has another value each time, or in each branch.
            or (step.operands != () and not step.operation.startswith("scf") and found.issuperset(step.operands))
        ),
    )
    program = _from(steps, "tt.get_program_id")
    counted = program | _from(steps, _COUNT)
    product = _reached(
        steps,
        lambda step, found: (
            _is_product(step, program)
            or not (
                found.isdisjoint(step.factors)
                or step.operation in _ENDS
                or step.operation.startswith(("arith.ext", "arith.index_cast"))
            )
        ),
    )
    return [
        step.line
        for step in steps
        if (step.operation == "tt.addptr" and step.narrow and step.operands[1] in product)
        or (_is_product(step, counted) and constants.isdisjoint(step.operands))
    ]


def _from(steps: Sequence[_Step], source: str) -> frozenset[str]:
    """Collect what is computed from the results of an operation."""
    return _reached(
        steps,
        lambda step, found: step.operation == source or not (found.isdisjoint(step.factors) or step.operation in _ENDS),
    )


def _is_product(step: _Step, program: frozenset[str]) -> bool:
    return step.operation in _PRODUCTS and step.narrow and not program.isdisjoint(step.factors)


def _reached(steps: Sequence[_Step], reaches: Callable[[_Step, frozenset[str]], bool]) -> frozenset[str]:
    """Collect the results of all steps for which ``reaches(step, found so far)`` holds, to a fixed point."""
    found: frozenset[str] = frozenset()
    while True:
        more = found.union(*(step.results for step in steps if step.results and reaches(step, found)))
        if more == found:
            return found
        found = more


@dataclass
class _Region:
    """A region that is being read.

    Attributes:
        receives: where each value goes that the region yields: results of its operation, and what a loop carries.
        gives: where each value goes that the condition of a ``while`` passes on: its results.
        carried: what a ``while`` carries, by the names here.
        passed: what the condition of a ``while`` passes on to the loop's body.
        names: of the values defined in it, by the name in the IR.
        compared: what each comparison in it read, by its result.
    """

    receives: list[frozenset[str]] = field(default_factory=list)
    gives: list[frozenset[str]] = field(default_factory=list)
    carried: list[str] = field(default_factory=list)
    passed: tuple[str, ...] = ()
    names: dict[str, str] = field(default_factory=dict)
    compared: dict[str, tuple[str, ...]] = field(default_factory=dict)


def _steps(ttir: str) -> Iterator[_Step]:
    """Read the IR line by line. What a region yields flows into the results and the carried values of its operation.

    Sibling regions use the same names for different values, so each value gets a name of its own here.
    """
    regions = [_Region()]
    numbers = itertools.count()

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
                yield _Step(line, _PASS, (passed,), frozenset({argument}))
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
            compared = [value for value in region.carried if value in region.compared.get(operands[0], ())]
            # A condition that is not a comparison of what is carried may be about any of it.
            yield _Step(line, _COUNT, (), frozenset(compared or region.carried))
        elif match and operation not in _LOOPS:
            if operation == "arith.cmpi":
                regions[-1].compared[results[0]] = operands
            yield _Step(line, operation, operands, frozenset(results))
        if line.endswith("{"):
            starts = [(name, resolve(start)) for name, start in _CARRIED.findall(text)] if operation in _LOOPS else []
            given = [frozenset({result}) for result in results]
            regions.append(_Region(closed.receives or given, passed=closed.passed))
            carried = [define(name) for name, _ in starts]
            if operation == "scf.for":
                # The first is its counter, which no yield changes.
                regions[-1].receives = [frozenset(pair) for pair in zip(carried[1:], results, strict=False)]
            elif operation == "scf.while":
                regions[-1].receives, regions[-1].gives = [frozenset({value}) for value in carried], given
                regions[-1].carried = carried
            for number, (value, (_, start)) in enumerate(zip(carried, starts, strict=True)):
                counts = operation == "scf.for" and number == 0
                yield _Step(line, _COUNT if counts else _CARRY, (start,), frozenset({value}))


def _results(names: str) -> Iterator[str]:
    """Give the name of each result on the left of an assignment, e.g. "%r#0" and "%r#1" of "%r:2"."""
    for name in names.split(", "):
        base, _, number = name.partition(":")
        yield from [f"{base}#{each}" for each in range(int(number))] if number else [base]


def _flow(line: str, operation: str, operands: Sequence[str], into: Sequence[frozenset[str]]) -> Iterator[_Step]:
    """Give a step for each value that goes its own way."""
    for operand, results in zip(operands, into, strict=False):
        yield _Step(line, operation, (operand,), results)
