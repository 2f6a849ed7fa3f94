"""Is a number a stride: computed from constants, arguments and what loops count in, not from what was loaded?"""

from __future__ import annotations

from perfgate.static.facts import SAME
from perfgate.static.intervals import knows
from perfgate.static.steps import COUNT, Step
from perfgate.static.sums import PASSES, Sums, connected

_COMPUTED = ("arith.constant", "tt.make_range", "tt.get_num_programs", "tt.get_program_id", COUNT, *SAME)


class Strides:
    """The strides among the numbers of one kernel.

    Args:
        sums: of the kernel.
    """

    def __init__(self, sums: Sums) -> None:
        self._sums = sums
        self._known: dict[str, bool] = {}

    def has(self, value: str) -> bool:
        """Tell whether a value is a stride."""
        if value not in self._known:
            behind = {value} | connected(
                [value], lambda at: (each for step in self._sums.given(at) for each in _read(step))
            )
            self._known[value] = all(_is_computed(step) for at in behind for step in self._sums.given(at))
        return self._known[value]


def _is_computed(step: Step) -> bool:
    return step.operation in _COMPUTED or knows(step.operation) or step.operation.startswith(PASSES)


def _read(step: Step) -> tuple[str, ...]:
    """Give what the result of a step is computed from, without what it is chosen by."""
    return step.operands[1:] if step.operation == "arith.select" else step.operands
