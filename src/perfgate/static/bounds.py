"""Between which numbers does a number of a kernel lie? Reads the steps of its Triton IR.

An argument, and what is loaded, is any number from 0 to the largest of 32 bits, unless ``tl.assume`` says how large it
is at most. What is computed from such numbers is taken not to wrap.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from perfgate.static.facts import DOWN, SAME, UP, ahead, assumed, is_less_one, rounded_up, rounds_down, written
from perfgate.static.intervals import LIMIT, LOWEST, UNKNOWN, ZERO, Interval, computed, hull, knows
from perfgate.static.steps import ASSUME, CARRY, COUNT, PASS, Step
from perfgate.static.strides import Strides
from perfgate.static.sums import ADDITIONS, PASSES, Circle, Sums, addend, summands

#: Numbers that are computed from others in more steps than this have no bound.
_DEEPEST = 64
_TWO = 2


class Bounds:
    """Bounds of the numbers of one kernel.

    Args:
        steps: of the kernel.
        sums: of these.

    Attributes:
        strides: of these.
    """

    def __init__(self, steps: Sequence[Step], sums: Sums) -> None:
        self._sums = sums
        self.strides = Strides(sums)
        self._loops: dict[int, list[Step]] = defaultdict(list)
        self._counts: dict[str, list[Step]] = defaultdict(list)
        for step in steps:
            if step.operation == COUNT:
                self._loops[step.loop].append(step)
                for value in step.results:
                    self._counts[value].append(step)
        self._found: dict[str, Interval] = {}
        self._changes: dict[tuple[str, bool], Interval] = {}
        self._rounds: dict[int, int] = {}
        self._depth = 0
        self._most: dict[str, int] = {}
        for step in steps:
            if step.operation == ASSUME:
                for value, most in assumed(self._sums, step):
                    self._most[value] = min(self._most.get(value, LIMIT), most)

    def of(self, value: str) -> Interval:
        """Give where a value lies; ``UNKNOWN`` of one of 32 bits of which nothing is known."""
        if value not in self._found and self._depth < _DEEPEST:
            # What a loop computes from what it computed before, other than a sum, has no bound.
            self._found[value] = UNKNOWN
            self._depth += 1
            low, high = self._known(value).clamped()
            high = min(high, self._most.get(value, high))
            self._found[value] = Interval(min(low, high), high)
            self._depth -= 1
        return self._found.get(value, UNKNOWN)

    def result(self, step: Step) -> Interval:
        """Give where the result of a step lies, which may be past 32 bits."""
        operation, operands = step.operation, step.operands
        if operation == PASS and operands[0] in self._counts:
            return self._while_on(operands[0])
        if operation in SAME or operation.startswith(PASSES):
            read = operands[:1] if operation in SAME else summands(step)
            return hull([self.of(each) for each in read])
        if operation in ("arith.divsi", "arith.divui") and (number := rounded_up(self._sums, step)):
            low, high = computed(operation, [*map(self.of, operands)])
            return Interval(low, min(high, max(self.of(number).high, 1)))
        if operation == "arith.subi" and rounds_down(self._sums, step):
            return self.of(operands[0]).joined(ZERO)
        if operation == "arith.subi" and (left := self._left(step)) is not None:
            return Interval(left, max(self.of(operands[0]).minus(self.of(operands[1])).high, left))
        if knows(operation):
            return computed(operation, [*map(self.of, operands)])
        # So few that a product with a counter is the number of a program.
        if operation == "tt.get_num_programs":
            return Interval(1, 1)
        return written(step)

    def _left(self, step: Step) -> int | None:
        """Give what is left at least where a step subtracts the counter of a ``for`` from its end, or from one less."""
        number, by = step.operands if len(step.operands) == _TWO else ("", "")
        for count in self._counts.get(by, ()):
            if count.by and number == count.until:
                return 1
            if count.by and any(is_less_one(self._sums, each, count.until) for each in self._sums.given(number)):
                return 0
        return None

    def _known(self, value: str) -> Interval:
        """Compute where a value lies."""
        carried = self._sums.carried(value)
        counts = self._counts.get(value, ())
        if counts and counts[0].by:
            return self._while_on(value)
        if not carried:
            return hull([self.result(step) for step in self._sums.given(value)])
        if counts:
            # After the last round it is what no longer holds.
            return self._start(value).joined(self._while_on(value).plus(self.change(value, False).joined(ZERO)))
        return self._start(value).plus(self._added(carried, False))

    def _start(self, value: str) -> Interval:
        """Give where a value that a loop carries lies but for what the loop adds: also what an inner one counts to."""
        circle = self._sums.circle(value)
        inner = (each for each in circle.values if each in self._counts and each != value)
        return hull([self.of(each) for each in (*circle.sources, *inner)])

    def _while_on(self, value: str) -> Interval:
        """Give where a value that a loop counts in lies while the loop goes on."""
        counts = self._counts[value]
        if counts[0].by:
            return self._for_on(counts[0])
        start = self._start(value)
        low, high = start.plus(self.change(value, False).repeated(LIMIT))
        for count in counts:
            if count.until:
                until, predicate = self.of(count.until), count.predicate
                if predicate in UP:
                    high = min(high, until.high + UP[predicate])
                if predicate in DOWN:
                    low = max(low, until.low + DOWN[predicate])
                if predicate == "ne":
                    low, high = max(low, min(start.low, until.low)), min(high, max(start.high, until.high))
        return Interval(min(low, high), high).clamped()

    def _for_on(self, count: Step) -> Interval:
        """Give where the counter of a ``for`` lies: what is added is positive."""
        start, until, by = (self.of(each) for each in (*count.operands, count.until, count.by))
        high = until.high - 1
        if start.low == start.high and by.low == by.high > 0:
            high -= max(high - start.low, 0) % by.low
        return Interval(min(start.low, high), high).clamped()

    def rounds(self, loop: int) -> int:
        """Give how often a loop goes round, at most."""
        if loop not in self._rounds:
            self._rounds[loop] = LIMIT
            self._rounds[loop] = min((self._until(step) for step in self._loops[loop] if step.until), default=LIMIT)
        return self._rounds[loop]

    def _until(self, count: Step) -> int:
        """Give how often a loop goes round until what it counts in has come to its end."""
        (value,) = count.results
        until, predicate = self.of(count.until), count.predicate
        start = self.of(count.operands[0]) if count.by else self._start(value)
        change = self.of(count.by) if count.by else self.change(value, False)
        if (predicate in UP or predicate == "ne") and change.high > 0:
            way, room, step = until.high + UP.get(predicate, -1) + 1 - start.low, LIMIT - start.low, change.low
        elif (predicate in DOWN or predicate == "ne") and change.low < 0:
            way, room, step = start.high + 1 - until.low - DOWN.get(predicate, 1), start.high - LOWEST, -change.high
        else:
            return LIMIT
        if count.by and (more := [self.of(each).high for each in ahead(self._sums, count.operands[0], count.until)]):
            way = min(way, *more)
        # After the last round, too, what it counts in is a number of 32 bits.
        step = max(step, 1)
        return max(min(-(-way // step), room // step), 0)

    def change(self, value: str, strides: bool) -> Interval:
        """Give where the sum of what one round of a loop adds to a value that it carries lies.

        Of branches only one is added; of a loop inside of the loop all of its rounds.

        Args:
            value: that the loop carries.
            strides: only what is added and not computed from what was loaded.
        """
        if (value, strides) not in self._changes:
            circle = self._sums.circle(value)
            self._changes[value, strides] = ZERO
            changes: dict[str, Interval] = {value: ZERO}
            ends: list[Interval] = []
            for step in circle.steps:
                change = self._changed(step, circle, changes, strides)
                for result in step.results & circle.values:
                    if result == value:
                        ends.append(change)
                    elif step.operation == CARRY or not self._sums.carried(result):
                        changes[result] = change.joined(changes.get(result, change))
            self._changes[value, strides] = hull(ends) if ends else ZERO
        return self._changes[value, strides]

    def _changed(self, step: Step, circle: Circle, changes: Mapping[str, Interval], strides: bool) -> Interval:
        """Give where the change lies that has been made once a step is done, by the changes made before."""
        before = [changes[each] for each in summands(step) if each in changes]
        change = hull(before) if before else ZERO
        if step.operation in ADDITIONS:
            added = addend(step, circle.values)
            what = self.of(added) if not strides or self.strides.has(added) else ZERO
            return change.minus(what) if step.operation == "arith.subi" else change.plus(what)
        if step.operation == CARRY:
            (value,) = step.results
            # What an inner loop counts in goes no further than to its end, however often the loop is run.
            return change if value in self._counts else change.plus(self._added(step, strides))
        return change

    def _added(self, carried: Step, strides: bool) -> Interval:
        """Give where what a loop has added lies: in the body of a ``for`` by all rounds but the last one."""
        (value,) = carried.results
        rounds = self.rounds(carried.loop)
        is_for = any(count.by for count in self._loops[carried.loop])
        return self.change(value, strides).repeated(max(rounds - 1, 0) if is_for else rounds)
