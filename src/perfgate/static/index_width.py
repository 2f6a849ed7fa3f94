"""Does a kernel compute an address in 32 bits that can pass 2**31? Reads it off its Triton IR."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

_NAME = r"%[\w$.-]+"
_ASSIGNED = re.compile(rf"^({_NAME}(?::\d+)?(?:, {_NAME}(?::\d+)?)*) = (.*)$")
_CARRIED = re.compile(rf"({_NAME}) = ({_NAME})")
#: A shift to the left is a product with a power of two.
_PRODUCTS = ("arith.muli", "arith.shli")
#: What lies at an address says nothing about where it lies, nor does a comparison of how large a number is.
_ENDS = ("tt.load", "arith.cmpi", "arith.cmpf")
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


def narrow_offsets(ttir: str) -> list[str]:
    """List the lines of a kernel's Triton IR that compute an address from a 32-bit product that can be too large.

    A line is listed when it adds an i32 offset that comes from program id x anything to a pointer, or when it
    multiplies the program id or the counter of a loop in i32 with a value known only at run time (a stride), whatever
    becomes of the product. A shift to the left counts as a product. A counter times a constant is not listed:
    that is how a loop walks along a row, tile by tile. The counter of a ``while`` is whatever it carries.

    Args:
        ttir: ``compiled.asm["ttir"]``.
    """
    steps = list(_steps(ttir))
    constants = _reached(
        steps,
        lambda step, found: (
            step.operation == "arith.constant"
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
            or not (found.isdisjoint(step.operands) or step.operation.startswith(("arith.ext", "arith.index_cast")))
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
        lambda step, found: (
            step.operation == source or not (found.isdisjoint(step.operands) or step.operation in _ENDS)
        ),
    )


def _is_product(step: _Step, program: frozenset[str]) -> bool:
    # What is shifted may be too large; by how far it is shifted is a few bits.
    factors = step.operands[:1] if step.operation == "arith.shli" else step.operands
    return step.operation in _PRODUCTS and step.narrow and not program.isdisjoint(factors)


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
        receives: what its operation gives and carries: where what the region yields goes.
        names: of the values defined in it, by the name in the IR.
        passed: what the condition of a ``while`` passes on to the loop's body.
    """

    receives: frozenset[str] = frozenset()
    names: dict[str, str] = field(default_factory=dict)
    passed: tuple[str, ...] = ()


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
        operands = tuple(resolve(name.split("#")[0]) for name in re.findall(_NAME, text))
        results = frozenset(define(name.split(":")[0]) for name in match[1].split(", ")) if match else frozenset()
        if operation == "scf.yield":
            yield _Step(line, operation, operands, regions[-1].receives)
        elif operation.startswith("scf.condition("):
            regions[-1].passed = operands[1:]
            yield _Step(line, operation, operands[1:], regions[-1].receives)
        elif match and operation not in _LOOPS:
            yield _Step(line, operation, operands, results)
        if line.endswith("{"):
            starts = [(name, resolve(start)) for name, start in _CARRIED.findall(text)] if operation in _LOOPS else []
            regions.append(_Region(closed.receives | results, passed=closed.passed))
            for number, (name, start) in enumerate(starts):
                value = frozenset({define(name)})
                # The first of a for is its counter, which no yield changes; a while counts in what it carries.
                counts = operation == "scf.while" or number == 0
                if operation == "scf.while" or number > 0:
                    regions[-1].receives |= value
                yield _Step(line, _COUNT if counts else _CARRY, (start,), value)
