"""What is the verdict of a case, from what the processes of both sides have answered so far?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from perfgate import markers, plan
from perfgate.ab import judge, sides
from perfgate.ab.git import Base
from perfgate.ab.stored import StoredTests
from perfgate.model import CaseResult, Hardware, Measurement, Outcome, Verdict
from perfgate.naming import case_of


class Answered:
    """The answers of both sides, and the verdicts that they allow.

    Args:
        base: the commit that is compared with.
        hardware: the machine.
        rootdir: pytest's root folder.
        remarks: what the reader should know beside the verdicts; what is found out here is added.

    Attributes:
        of_head: what the head's processes answered.
        of_base: what the base's did.
        stored: the tests of the commit.
    """

    def __init__(self, base: Base, hardware: Hardware, rootdir: Path, remarks: list[str]) -> None:
        self.of_head, self.of_base = sides.Answers(), sides.Answers()
        self.stored = StoredTests(base.commit, base.root, rootdir)
        self._commit = base
        self._hardware = hardware
        self._remarks = remarks

    def verdict(self, item: pytest.Item, *, level: float, last: bool, looks: Sequence[int]) -> CaseResult:
        """Judge a case.

        Args:
            item: its test.
            level: see :func:`perfgate.ab.judge.alarm`.
            last: no further pair will come, or only because the case looks slower.
            looks: see :func:`perfgate.ab.judge.stages`.
        """
        case = case_of(item)
        head = [self._placed(item, each) for each in self.of_head.measurements.get(case, ())]
        base = self.of_base.measurements.get(case, [])
        if not head:
            why = f"the head could not be run: {self.of_head.missing[case]}"
            return self.none(item, why, outcome=Outcome.FAILED)
        if not base and head[0].outcome in (Outcome.FAILED, Outcome.SKIPPED):
            base = [replace(head[0], outcome=Outcome.SKIPPED)]
        if not base:
            return self._not_on_base(item, head[0], self.of_base.missing[case])
        if base[0].outcome is Outcome.FAILED and head[0].outcome is Outcome.PASSED:
            # The test is of now: code that answers otherwise, or to other names, is no slower and no faster code.
            return self._not_on_base(item, head[0], base[0].reason)
        limited = [judge.limited(each, plan.of(item)) for each in head]
        last = last or head[0].repeats or len(base) != len(head)
        return judge.compare(base, limited, commit=self._commit.short, level=level, last=last, looks=looks)

    def none(self, item: pytest.Item, reason: str, *, outcome: Outcome = Outcome.SKIPPED) -> CaseResult:
        """Give the result of a case that there is no verdict of.

        Args:
            item: its test.
            reason: why there is none.
            outcome: how it ended, where no process could say.
        """
        case = case_of(item)
        known = self.of_head.measurements.get(case, ())
        head = self._placed(item, known[0] if known else Measurement(case=case, key="", outcome=outcome))
        return CaseResult(case, head.key, Verdict.INCONCLUSIVE, head.outcome, len(known), reason)

    def open(self, item: pytest.Item, result: CaseResult) -> bool:
        """Whether a further pair can decide a case that has this result so far."""
        return result.verdict is Verdict.INCONCLUSIVE and self.repeatable(item)

    def repeatable(self, item: pytest.Item) -> bool:
        """Whether a further pair can be measured, and may differ from those so far."""
        case = case_of(item)
        able = case not in self.of_head.missing and case not in self.of_base.missing
        return able and not any(each.repeats for each in self.of_head.measurements.get(case, ()))

    def _placed(self, item: pytest.Item, measurement: Measurement) -> Measurement:
        """Give a measurement its hardware where its process died before it could say."""
        if measurement.key:
            return measurement
        device = markers.device_for({mark.name for mark in item.iter_markers()}, self._hardware)
        return replace(measurement, key=device.key)

    def _not_on_base(self, item: pytest.Item, head: Measurement, why: str) -> CaseResult:
        """Give the answer for a case that only the head can run, or pass."""
        case = case_of(item)
        if why == sides.ABSENT or not self.stored.has(case):
            # The function may be there: a case is new, too, when only its parameter is.
            reason = f"not on {self._commit.ref}"
        elif self.of_base.measurements.get(case):
            reason = f"the base does not pass the test of now: {why}"
        else:
            reason = f"the base does not import: {why}"
            remark = f"{reason}: what the tests of now need of the code is not all there"
            if remark not in self._remarks:
                self._remarks.append(remark)
        return replace(self.none(item, reason), verdict=Verdict.NEW, key=head.key, outcome=head.outcome)
