"""Is what the extra work really added what its step says? The cases in which it is not, and how it is written."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from perfgate import units
from perfgate.calibrate.figures import CaseFigures, PairFigures, Suite
from perfgate.calibrate.steps import label, share_of
from perfgate.hardware.key import printable

#: How far a slow-down may be from what it is called, as a share of it.
TOLERATED = 0.2
#: Cases that are named.
_NAMED = 3
# Far below any difference that matters, far above the rounding of a ratio.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Off:
    """A slow-down of one case that is not what it is called.

    Attributes:
        case: node id.
        share: what its name says.
        achieved: what it was.
    """

    case: str
    share: float
    achieved: float

    @property
    def far(self) -> float:
        """Give how far off it is, as a share of what it is called."""
        return abs(self.achieved / self.share - 1)


def off(cases: Sequence[CaseFigures] | Sequence[PairFigures]) -> list[Off]:
    """Give the cases with a slow-down that is not what it is called, the worst first.

    Args:
        cases: any. Of each, its largest such slow-down is given, which noise says least about.
    """
    found: dict[str, Off] = {}
    for case in cases:
        for step, power in case.power.items():
            share = share_of(step)
            if share is None or math.isnan(power.achieved):
                continue
            each = Off(case.case, share, power.achieved)
            if each.far > TOLERATED + _ROUNDING and (case.case not in found or share > found[case.case].share):
                found[case.case] = each
    return sorted(found.values(), key=lambda each: each.far, reverse=True)


def careful(suite: Suite) -> Iterator[str]:
    """Name the cases in which slow-downs were not what they are called: of stored baselines, and in pairs."""
    yield from _line("", suite.cases)
    if suite.in_pairs is not None:
        yield from _line("in pairs, ", suite.in_pairs.cases)


def _line(where: str, cases: Sequence[CaseFigures] | Sequence[PairFigures]) -> Iterator[str]:
    found = off(cases)
    if found:
        named = ", ".join(
            f"{printable(each.case)} ({label(each.share)}: {units.percent(each.achieved)})" for each in found[:_NAMED]
        )
        more = "e.g. " if len(found) > _NAMED else ""
        yield (
            f"careful: {where}extra work was more than a fifth off what its step says in {len(found)} of "
            f"{units.count(len(cases), 'case')}: {more}{named}"
        )


def median(achieved: Sequence[float]) -> str:
    """Write the median over cases of what a step added."""
    known = _known(achieved)
    return units.percent(statistics.median(known)) if known else units.NOTHING


def by_case(achieved: Sequence[float]) -> str:
    """Write the least and the most that a step added in some cases; nothing where they read the same."""
    known = _known(achieved)
    ends = dict.fromkeys((units.percent(min(known)), units.percent(max(known)))) if known else {}
    return " to ".join(ends) if len(ends) > 1 else ""


def both(achieved: Sequence[float]) -> str:
    """Write the median over cases of what a step added, and the least and the most."""
    between = by_case(achieved)
    return f"{median(achieved)} (by case {between})" if between else median(achieved)


def _known(achieved: Sequence[float]) -> list[float]:
    return [each for each in achieved if not math.isnan(each)]
