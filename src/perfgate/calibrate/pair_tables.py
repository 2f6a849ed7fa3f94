"""Which tables tell of base and head in turn? What is found of each size, over groups of cases and by case."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from perfgate import units
from perfgate.calibrate import cells
from perfgate.calibrate.figures import InPairs, PairFigures, Suite
from perfgate.calibrate.intervals import Rate, together
from perfgate.report.table import Column

UNCHANGED = "unchanged"
_OWN, _HALF = "own", "half"
_COLUMNS = (Column("step"), Column("limit"), Column("pairs"), Column("found"), Column("95 % interval"))


def found(suite: Suite, pairs: InPairs, steps: Sequence[str]) -> cells.Table:
    """Tell how often each step is found in a run in pairs, and what its limit costs in false alarms."""
    by_name = {case.case: case for case in pairs.cases}
    rows = []
    for name, cases in cells.groups(suite.cases):
        members = [by_name[case.case] for case in cases]
        for step in steps:
            for limit, each, alarms in _rates(members, step):
                rate = together(each)
                most = str(max(case.power[step].pairs for case in members if step in case.power))
                reached, false = cells.reached(each), cells.share(alarms)
                rows.append((name, step, limit, most, cells.figures(rate)[0], cells.interval(rate), reached, false))
    wanted = units.share(cells.WANTED)
    return cells.Table(
        "Found in pairs of base and head (--perf-ab)",
        (Column("cases", figures=False), *_COLUMNS, Column(f"in {wanted}"), Column("alarms")),
        tuple(rows),
        "limit: the case's own in such a run, where wall time may change by 5 % unless the test says otherwise, or "
        f"half the step. pairs: that a comparison could take, of the gate's {suite.total}. in {wanted}: cases in which "
        "at least so many are found. alarms: those of unchanged code with that limit. Each pair is two neighbours in "
        "time, and their order changes from pair to pair; base and head are never the same process. The interval is "
        "that of as many comparisons as have room in the pool one beside the other, times the cases.",
    )


def by_case(pairs: InPairs, steps: Sequence[str]) -> cells.Table:
    """Tell of each case."""
    rows = []
    for case in pairs.cases:
        rows.append((case.case, UNCHANGED, _OWN, str(pairs.pairs), *cells.figures(case.alarms)))
        for step in steps:
            for limit, rates, _ in _rates([case], step):
                rows.append((case.case, step, limit, str(case.power[step].pairs), *cells.figures(rates[0])))
    return cells.Table(
        "All cases in pairs of base and head (--perf-ab)",
        (Column("case", figures=False), *_COLUMNS, Column("worth")),
        tuple(rows),
        "found: failing comparisons, which are false alarms where the code is unchanged.",
    )


def _rates(cases: Sequence[PairFigures], step: str) -> Iterator[tuple[str, list[Rate], list[Rate]]]:
    """Give, for each limit, how often a step is found in each of some cases, and their false alarms."""
    known = [(case, case.power[step]) for case in cases if step in case.power and case.power[step].own.drawn]
    if known:
        yield _OWN, [power.own for _, power in known], [case.alarms for case, _ in known]
    halves = [power for _, power in known if power.half is not None]
    if halves:
        yield (
            _HALF,
            [power.half for power in halves if power.half is not None],
            [power.half_alarms for power in halves if power.half_alarms is not None],
        )
