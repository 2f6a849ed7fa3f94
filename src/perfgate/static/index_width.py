"""Does a kernel compute an address in 32 bits that can pass 2**31? Reads it off its Triton IR."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

_NAME = r"%[\w$.-]+"
_ASSIGNED = re.compile(rf"^({_NAME}(?::\d+)?(?:, {_NAME}(?::\d+)?)*) = (.*)$")
_CARRIED = re.compile(rf"({_NAME}) = ({_NAME})")
#: A shift to the left is a product with a power of two.
_PRODUCTS = ("arith.muli", "arith.shli")
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
    """List the lines of a kernel's Triton IR that compute an address from a 32-bit product with a program's id.

    A line is listed when it adds an i32 offset that comes from program id x anything to a pointer, or when it
    multiplies the program id in i32 with a value known only at run time (a stride), whatever becomes of the product.
    A shift to the left counts as a product.

    Args:
        ttir: ``compiled.asm["ttir"]``.
    """
    steps = list(_steps(ttir))
    constants = _reached(
        steps,
        lambda step, found: (
            step.operation == "arith.constant" or (step.operands != () and found.issuperset(step.operands))
        ),
    )
    program = _reached(
        steps,
        lambda step, found: (
            step.operation == "tt.get_program_id"
            # What lies at an address says nothing about where it lies.
            or not (found.isdisjoint(step.operands) or step.operation == "tt.load")
        ),
    )
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
        or (_is_product(step, program) and constants.isdisjoint(step.operands))
    ]


def _is_product(step: _Step, program: frozenset[str]) -> bool:
    return step.operation in _PRODUCTS and step.narrow and not program.isdisjoint(step.operands)


def _reached(steps: Sequence[_Step], reaches: Callable[[_Step, frozenset[str]], bool]) -> frozenset[str]:
    """Collect the results of all steps for which ``reaches(step, found so far)`` holds, to a fixed point."""
    found: frozenset[str] = frozenset()
    while True:
        more = found.union(*(step.results for step in steps if step.results and reaches(step, found)))
        if more == found:
            return found
        found = more


def _steps(ttir: str) -> Iterator[_Step]:
    """Read the IR line by line. What a region yields flows into the results and the carried values of its operation.

    Sibling regions use the same names for different values, so each value gets a name of its own here.
    """
    scopes: list[dict[str, str]] = [{}]
    receivers: list[frozenset[str]] = [frozenset()]
    numbers = itertools.count()

    def define(name: str) -> str:
        scopes[-1][name] = f"{name}@{next(numbers)}"
        return scopes[-1][name]

    def resolve(name: str) -> str:
        return next((scope[name] for scope in reversed(scopes) if name in scope), name)

    for raw in ttir.splitlines():
        line = re.sub(r" loc\([^ ]*\)$", "", raw.strip())
        closes = line.startswith("}") and len(scopes) > 1
        receiver = receivers.pop() if closes else frozenset()
        if closes:
            scopes.pop()
        match = _ASSIGNED.match(line)
        text = match[2] if match else line
        operation = text.split(" ", 1)[0]
        operands = tuple(resolve(name.split("#")[0]) for name in re.findall(_NAME, text))
        results = frozenset(define(name.split(":")[0]) for name in match[1].split(", ")) if match else frozenset()
        if operation == "scf.yield":
            yield _Step(line, operation, operands, receivers[-1])
        elif match and operation != "scf.for":
            yield _Step(line, operation, operands, results)
        if line.endswith("{"):
            carried = (
                [(name, resolve(start)) for name, start in _CARRIED.findall(text)] if operation == "scf.for" else []
            )
            scopes.append({})
            starts = {define(name): start for name, start in carried}
            receivers.append(receiver | results | frozenset(starts))
            for name, start in starts.items():
                yield _Step(line, operation, (start,), frozenset({name}))
