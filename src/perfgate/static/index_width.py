"""Does a kernel compute an address in 32 bits that can pass 2**31? Reads it off its Triton IR."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set

from perfgate.static.bounds import Bounds
from perfgate.static.facts import SAME
from perfgate.static.increments import increments
from perfgate.static.steps import CARRY, COUNT, PASS, Step
from perfgate.static.steps import steps as read_steps
from perfgate.static.sums import ADDITIONS, Sums

#: What lies at an address says nothing about where it lies, nor does a comparison of how large a number is.
_ENDS = ("tt.load", "tt.descriptor_load", "arith.cmpi", "arith.cmpf")
#: Known when a kernel is compiled; or so few that a product with a counter is the number of a program.
_BOUNDED = ("arith.constant", "tt.make_range", "tt.get_num_programs")


def narrow_offsets(ttir: str) -> list[str]:
    """List the lines of a kernel's Triton IR that compute an address from a 32-bit number that can be too large.

    A line is listed when it

    - adds an i32 offset that comes from program id x anything to a pointer;
    - multiplies the program id or the counter of a loop in i32 with a value known only at run time (a stride), whatever
      becomes of the product;
    - multiplies the counter of a loop in i32 with a constant, where the product can pass 2**31 and an address comes
      from it. One that walks along a row, tile by tile, cannot: it counts up to a number of 32 bits over the tile;
    - adds a stride in i32 to what a loop carries, where the strides of all rounds together can pass 2**31 and an
      address comes from it. What a loop carries and adds strides to is taken for a counter, too.

    A shift to the left counts as a product. The counter of a ``while`` is what its condition compares. Of what is
    computed from the program id only counters that begin at the id, and their sums, are taken for what a loop counts:
    of the row of a tile, found from the tile's number, nothing is known.

    Args:
        ttir: ``compiled.asm["ttir"]``.
    """
    steps = list(read_steps(ttir))
    constants = _reached(
        steps,
        lambda step, found: (
            step.operation in _BOUNDED
            # What a region carries or yields has another value each time, or in each branch.
            or (step.operands != () and not step.operation.startswith("scf") and found >= set(step.operands))
        ),
    )
    program = _from(steps, lambda step: step.operation == "tt.get_program_id")
    counted = program | _from(steps, lambda step: step.operation == COUNT)
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
    looped = _in_loops(steps, program)
    return [
        step.line
        for step in steps
        if (step.operation == "tt.addptr" and step.narrow and step.operands[1] in product)
        or (_is_product(step, counted) and constants.isdisjoint(step.operands))
        or step in looped
    ]


def _in_loops(steps: Sequence[Step], program: frozenset[str]) -> frozenset[Step]:
    """Collect the steps whose 32-bit results pass 2**31 because a loop goes on, and that addresses come from."""
    addresses = _behind(steps)
    products = [step for step in steps if step.product and not addresses.isdisjoint(step.results)]
    carried = (step for step in steps if step.operation == CARRY and not addresses.isdisjoint(step.results))
    if not products and not any(carried):
        return frozenset()
    sums = Sums(steps)
    bounds = Bounds(steps, sums)
    added = dict(increments(steps, addresses, sums, bounds))
    counted = {step for step, each in added.items() if each.only}
    looped = _from(steps, lambda step: step in counted or _is_counter(step)) - program | _counters(steps, program)
    found = {step for each in added.values() if each.far for step in each.strides}
    found |= {step for step in products if _is_product(step, looped) and not bounds.result(step).fits}
    return frozenset(found)


def _is_counter(step: Step) -> bool:
    return step.operation == COUNT and step.until != ""


def _counters(steps: Sequence[Step], program: frozenset[str]) -> frozenset[str]:
    """Collect what loops count in, also from the program's id on, and its sums with what does not come from the id."""
    return _reached(
        steps,
        lambda step, found: (
            _is_counter(step)
            or (step.operation in (*SAME, PASS) and not found.isdisjoint(step.operands))
            or (
                step.operation in ADDITIONS
                and not found.isdisjoint(step.operands)
                and program.isdisjoint(frozenset(step.operands) - found)
            )
        ),
    )


def _behind(steps: Sequence[Step]) -> frozenset[str]:
    """Collect what the offsets of addresses are computed from.

    What is multiplied in 64 bits is the number of a row, not an offset, and there are not so many rows.
    """
    found: set[str] = set()
    size = -1
    while size != len(found):
        size = len(found)
        for step in reversed(steps):
            if step.operation == "tt.addptr":
                found.add(step.operands[1])
            elif not (step.operation in _ENDS or step.wide_product or found.isdisjoint(step.results)):
                found.update(step.factors)
    return frozenset(found)


def _from(steps: Sequence[Step], source: Callable[[Step], bool]) -> frozenset[str]:
    """Collect what is computed from the results of some operations."""
    return _reached(
        steps,
        lambda step, found: source(step) or not (found.isdisjoint(step.factors) or step.operation in _ENDS),
    )


def _is_product(step: Step, numbers: frozenset[str]) -> bool:
    return step.product and not numbers.isdisjoint(step.factors)


def _reached(steps: Sequence[Step], reaches: Callable[[Step, Set[str]], bool]) -> frozenset[str]:
    """Collect the results of all steps for which ``reaches(step, found so far)`` holds, to a fixed point."""
    found: set[str] = set()
    size = -1
    while size != len(found):
        size = len(found)
        for step in steps:
            if not found.issuperset(step.results) and reaches(step, found):
                found |= step.results
    return frozenset(found)
