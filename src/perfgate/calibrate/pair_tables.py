"""Which tables tell of base and head in turn? What is found of each size, over groups of cases and by case."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from perfgate import units
from perfgate.ab.judge import WALL_LIMIT
from perfgate.calibrate import achieving, cells
from perfgate.calibrate.figures import InPairs, PairFigures, Suite
from perfgate.calibrate.intervals import Rate, together
from perfgate.measure.wall import WALL_LIMIT_CPU
from perfgate.report.table import Column

UNCHANGED = "unchanged"
_OWN, _HALF = "own", "half"
#: What a note adds where it happened.
CROSSED = " Some comparisons went on with another device when one was used up, which --perf-ab never does."
_ACHIEVED = Column("achieved", figures=False)
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
                achieved = achieving.both([case.power[step].achieved for case in members if step in case.power])
                figures = (most, cells.figures(rate)[0], cells.interval(rate), reached, false)
                rows.append((name, step, limit, *figures, achieved if limit == _OWN else ""))
    wanted = units.share(cells.WANTED)
    went_on = any(power.crossed for case in pairs.cases for power in case.power.values())
    return cells.Table(
        "Found in pairs of base and head (--perf-ab)",
        (Column("cases", figures=False), *_COLUMNS, Column(f"in {wanted}"), Column("alarms"), _ACHIEVED),
        tuple(rows),
        f"limit: the case's own in such a run, where wall time may change by {units.share(WALL_LIMIT.relative)} unless "
        f"the test says otherwise, or half the step. A test that says exactly {units.share(WALL_LIMIT_CPU.relative)}, "
        "which is what stored baselines have where a test names none, is taken to say nothing. pairs: that a "
        f"comparison could take, of the gate's {suite.total}. in {wanted}: cases in which at least so many are found. "
        "alarms: those of unchanged code with that limit. achieved: the change that the comparisons report, in a case "
        "the median over its runs; then the median over the cases, the least and the most. Each pair is two "
        "neighbours in time, and their order changes from pair to pair; base and head are never the same process. The "
        "interval is that of as many comparisons as have room in the pool one beside the other, times the cases."
        f"{CROSSED if went_on else ''}",
    )


def by_case(pairs: InPairs, steps: Sequence[str]) -> cells.Table:
    """Tell of each case."""
    rows = []
    for case in pairs.cases:
        rows.append((case.case, UNCHANGED, units.NOTHING, _OWN, str(pairs.pairs), *cells.figures(case.alarms)))
        for step in steps:
            for limit, rates, _ in _rates([case], step):
                power = case.power[step]
                achieved = achieving.median([power.achieved]) if limit == _OWN else units.NOTHING
                rows.append((case.case, step, achieved, limit, str(power.pairs), *cells.figures(rates[0])))
    return cells.Table(
        "All cases in pairs of base and head (--perf-ab)",
        (Column("case", figures=False), _COLUMNS[0], Column("achieved"), *_COLUMNS[1:], Column("worth")),
        tuple(rows),
        "found: failing comparisons, which are false alarms where the code is unchanged. achieved: the change that "
        "they report with the case's own limit, the median over the runs.",
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
