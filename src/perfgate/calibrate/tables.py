"""Which tables does a calibration have? False alarms, what is found, other tools' rules, and single cases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from perfgate import units
from perfgate.calibrate import achieving, cells, pair_tables
from perfgate.calibrate.figures import CaseFigures, PairFigures, Suite
from perfgate.calibrate.intervals import Rate
from perfgate.calibrate.steps import share_of
from perfgate.report.table import Column


def tables(suite: Suite, *, every: bool = False) -> Iterator[cells.Table]:
    """Give everything there is to show."""
    yield _alarms(suite)
    steps = cells.steps(suite.cases)
    if steps:
        yield _power(suite, steps)
        if suite.in_pairs is not None:
            yield pair_tables.found(suite, suite.in_pairs, steps)
    yield _rivals(suite, steps)
    noisy = [case for case in suite.cases if case.advice]
    if noisy:
        yield _cases("Too noisy for their limit", noisy)
    if every:
        yield _cases("All cases", suite.cases)
        if suite.in_pairs is not None:
            yield pair_tables.by_case(suite.in_pairs, steps)


def _alarms(suite: Suite) -> cells.Table:
    rows = [
        ("comparisons of one case", str(suite.alarms.drawn), *cells.figures(suite.alarms)),
        ("runs of the suite, in the order of time", str(suite.runs.drawn), *cells.figures(suite.runs)),
        ("runs of the suite, processes shuffled", str(suite.shuffled.drawn), *cells.figures(suite.shuffled)),
    ]
    if suite.across is not None:
        drawn = str(suite.across.drawn)
        rows.append(("runs on another GPU than the baseline's", drawn, *cells.figures(suite.across)))
    note = (
        f"Verdicts: {_words(suite.verdicts)}. A run took {suite.confirmed:.1f} further processes on average. "
        "Comparisons share processes: the interval is that of as many independent ones as in the last column, one for "
        "each process that a run could start from beside one baseline, and times the cases for comparisons of one case."
    )
    if suite.in_pairs is not None:
        pairs = suite.in_pairs
        rows.append(("in pairs: comparisons of one case", str(pairs.alarms.drawn), *cells.figures(pairs.alarms)))
        crossed = pair_tables.CROSSED if pairs.crossed else ""
        rows.append(("in pairs: runs of the suite", str(pairs.runs.drawn), *cells.figures(pairs.runs)))
        note += (
            f" In pairs of base and head (--perf-ab): {_words(pairs.verdicts)}. A run took {pairs.taken:.1f} pairs on "
            f"average, and the pool is worth as many runs as have room in it one beside the other.{crossed}"
        )
    return cells.Table(
        "False alarms on unchanged code",
        (Column("", figures=False), Column("drawn"), Column("failed"), Column("95 % interval"), Column("worth")),
        tuple(rows),
        note,
    )


def _words(verdicts: Mapping[str, int]) -> str:
    total = sum(verdicts.values())
    shares = ((word.replace("_", " "), units.share(round(number / total, 4))) for word, number in verdicts.items())
    return ", ".join(f"{word} {share}" for word, share in shares)


def _power(suite: Suite, steps: Sequence[str]) -> cells.Table:
    rows = []
    for name, cases in cells.groups(suite.cases):
        for step in steps:
            found = [(case, case.power[step]) for case in cases if step in case.power and case.power[step].own.drawn]
            if not found:
                continue
            powers = [power for _, power in found]
            achieved = [power.achieved for power in powers]
            halves = [power.half for power in powers if power.half is not None]
            alarms = [case.half_alarms[step] for case, _ in found if step in case.half_alarms]
            rows.append(
                (
                    name,
                    step,
                    str(len(found)),
                    achieving.median(achieved),
                    cells.share([power.own for power in powers]),
                    cells.reached([power.own for power in powers]),
                    cells.share(halves),
                    cells.reached(halves),
                    cells.share(alarms),
                    achieving.by_case(achieved),
                )
            )
    return cells.Table(
        "Slow-downs and memory that are found",
        (
            Column("cases", figures=False),
            Column("step"),
            Column("number"),
            Column("achieved"),
            Column("found"),
            Column(f"in {units.share(cells.WANTED)}"),
            Column("at half"),
            Column(f"in {units.share(cells.WANTED)}"),
            Column("alarms"),
            Column("achieved by case", figures=False),
        ),
        tuple(rows),
        "found: share of comparisons that fail with each case's own limit, which forbids a verdict on a smaller step; "
        f"in {units.share(cells.WANTED)}: cases in which at least so many are found; at half: the same with a limit of "
        "half the step, and the false alarms that unchanged code raises then. achieved: what the extra work really "
        "added, the median over the cases; by case, the least and the most.",
    )


def _rivals(suite: Suite, steps: Sequence[str]) -> cells.Table:
    shown = [step for step in steps if share_of(step) is not None]
    ours: list[tuple[str, Rate, Rate, Sequence[CaseFigures] | Sequence[PairFigures]]] = [
        ("perfgate", suite.alarms, suite.runs, suite.cases)
    ]
    if (pairs := suite.in_pairs) is not None:
        ours.append(("perfgate in pairs", pairs.alarms, pairs.runs, pairs.cases))
    rows = []
    for name, alarms, runs, cases in ours:
        powers = [[case.power[step] for case in cases if step in case.power] for step in shown]
        own = [cells.share([power.own for power in each]) for each in powers]
        rows.append((name, cells.share([alarms]), cells.share([runs]), *own))
        if shown:
            half = [cells.share([power.half for power in each if power.half is not None]) for each in powers]
            rows.append((f"{name}, half the step", units.NOTHING, units.NOTHING, *half))
    for name, figures in suite.rivals.items():
        found = [cells.share([figures.power[step]]) if step in figures.power else units.NOTHING for step in shown]
        rows.append((name, cells.share([figures.alarms]), cells.share([figures.runs]), *found))
    return cells.Table(
        "Rules of other tools on the same samples",
        (Column("rule", figures=False), Column("false alarms"), Column("runs with one"), *map(Column, shown)),
        tuple(rows),
        "Each compares one process with one (asv: the outer with the inner two of four); runs with one: of the whole "
        "suite; half the step: with a limit of that.",
    )


def _cases(title: str, cases: Sequence[CaseFigures]) -> cells.Table:
    rows = [
        (
            case.case,
            units.quantity(case.time, "s"),
            cells.small(case.spread),
            cells.small(case.cycles),
            cells.small(case.limit),
            cells.small(case.detectable),
            cells.share([case.alarms]),
            cells.share([case.undecided]),
            case.advice or units.NOTHING,
        )
        for case in cases
    ]
    return cells.Table(
        title,
        (
            Column("case", figures=False),
            Column("time"),
            Column("spread"),
            Column("in cycles"),
            Column("limit"),
            Column("detectable"),
            Column("alarms"),
            Column("undecided"),
            Column("what would help", figures=False),
        ),
        tuple(rows),
        "spread: standard deviation between processes; detectable: the smallest slow-down that a whole confirmation of "
        "unchanged code could have shown.",
    )
