"""How is a calibration read? Tables for the terminal, and the same in Markdown for a README."""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from perfgate import units
from perfgate.calibrate.analysis import WANTED, CaseFigures, Suite
from perfgate.calibrate.intervals import Rate
from perfgate.calibrate.steps import share_of
from perfgate.report.table import Column, layout
from perfgate.units import count

#: From here on a kernel is long enough for the goals of the gate.
LONG_S = 20e-6
#: Columns of the notes below tables in a terminal.
_WIDTH = 110


@dataclass(frozen=True)
class Table:
    """A table: what it says, its columns, its rows, and what has to be known to read it."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def lines(suite: Suite, *, every: bool = False) -> Iterator[str]:
    """Write a calibration for the terminal.

    Args:
        suite: what was found.
        every: every case, not the noisy ones only.
    """
    yield from heading(suite)
    for table in tables(suite, every=every):
        yield ""
        yield f"{table.title}:"
        made = layout(table.columns, table.rows)
        yield made.heading()
        for row in table.rows:
            yield from made.row(row)
        yield from textwrap.wrap(table.note, _WIDTH)


def markdown(suite: Suite, *, every: bool = False) -> Iterator[str]:
    """Write a calibration as Markdown."""
    yield from (f"{line}  " for line in heading(suite))
    for table in tables(suite, every=every):
        yield ""
        yield f"**{table.title}**"
        yield ""
        yield _markdown_row([column.heading or " " for column in table.columns])
        yield _markdown_row(["---:" if column.figures else "---" for column in table.columns])
        yield from map(_markdown_row, table.rows)
        if table.note:
            yield ""
            yield table.note


def heading(suite: Suite) -> Iterator[str]:
    """Say what was measured, and the answer."""
    where = f" on {count(len(suite.devices), 'GPU')}" if len(suite.devices) > 1 else ""
    limits = "" if suite.limit is None else f", all limits of time set to {units.share(suite.limit)}"
    processes = count(suite.processes, "fresh process", "fresh processes")
    yield f"{suite.key}: {count(len(suite.cases), 'case')} in {processes}{where}{limits}"
    comparisons, runs = _rate(suite.alarms), _rate(suite.runs)
    yield f"false alarms on unchanged code: {comparisons} of comparisons, {runs} of runs of the suite"
    if suite.few is not None:
        yield (
            f"careful: a confirmation had at most {suite.few} of its {suite.total} processes, and finds less than the "
            f"gate's; the pool is to have {suite.processes + suite.total - suite.few}"
        )
    if len(suite.commits) > 1:
        yield f"careful: measured at {len(suite.commits)} commits ({', '.join(suite.commits)})"


def tables(suite: Suite, *, every: bool = False) -> Iterator[Table]:
    """Give everything there is to show."""
    yield _alarms(suite)
    steps = _steps(suite.cases)
    if steps:
        yield _power(suite, steps)
    yield _rivals(suite, steps)
    noisy = [case for case in suite.cases if case.advice]
    if noisy:
        yield _cases("Too noisy for their limit", noisy)
    if every:
        yield _cases("All cases", suite.cases)


def _alarms(suite: Suite) -> Table:
    total = sum(suite.verdicts.values())
    rows = [
        ("comparisons of one case", str(suite.alarms.drawn), *_figures(suite.alarms)),
        ("runs of the suite, in the order of time", str(suite.runs.drawn), *_figures(suite.runs)),
        ("runs of the suite, processes shuffled", str(suite.shuffled.drawn), *_figures(suite.shuffled)),
    ]
    if suite.across is not None:
        drawn = str(suite.across.drawn)
        rows.append(("runs on another GPU than the baseline's", drawn, *_figures(suite.across)))
    words = ", ".join(
        f"{word.replace('_', ' ')} {units.share(round(number / total, 4))}" for word, number in suite.verdicts.items()
    )
    return Table(
        "False alarms on unchanged code",
        (Column("", figures=False), Column("drawn"), Column("failed"), Column("95 % interval"), Column("worth")),
        tuple(rows),
        f"Verdicts: {words}. A run took {suite.confirmed:.1f} further processes on average. Comparisons share "
        "processes: the interval is that of as many independent ones as in the last column, one for each process that "
        "a run could start from beside one baseline, and times the cases for comparisons of one case.",
    )


def _power(suite: Suite, steps: Sequence[str]) -> Table:
    rows = []
    for name, cases in _groups(suite.cases):
        for step in steps:
            found = [(case, case.power[step]) for case in cases if step in case.power and case.power[step].own.drawn]
            if not found:
                continue
            powers = [power for _, power in found]
            achieved = [power.achieved for power in powers if not math.isnan(power.achieved)]
            halves = [power.half for power in powers if power.half is not None]
            alarms = [case.half_alarms[step] for case, _ in found if step in case.half_alarms]
            rows.append(
                (
                    name,
                    step,
                    str(len(found)),
                    units.percent(statistics.median(achieved)) if achieved else units.NOTHING,
                    _share([power.own for power in powers]),
                    _reached([power.own for power in powers]),
                    _share(halves),
                    _reached(halves),
                    _share(alarms),
                )
            )
    return Table(
        "Slow-downs and memory that are found",
        (
            Column("cases", figures=False),
            Column("step"),
            Column("number"),
            Column("achieved"),
            Column("found"),
            Column(f"in {units.share(WANTED)}"),
            Column("at half"),
            Column(f"in {units.share(WANTED)}"),
            Column("alarms"),
        ),
        tuple(rows),
        "found: share of comparisons that fail with each case's own limit, which forbids a verdict on a smaller step; "
        f"in {units.share(WANTED)}: cases in which at least so many are found; at half: the same with a limit of half "
        "the step, and the false alarms that unchanged code raises then. achieved: what the extra work really added, "
        "the median.",
    )


def _rivals(suite: Suite, steps: Sequence[str]) -> Table:
    shown = [step for step in steps if share_of(step) is not None]
    ours = [
        _share([case.power[step].own for case in suite.cases if step in case.power and case.power[step].own.drawn])
        for step in shown
    ]
    halves = [
        _share([half for case in suite.cases if step in case.power and (half := case.power[step].half) is not None])
        for step in shown
    ]
    rows = [("perfgate", _share([suite.alarms]), _share([suite.runs]), *ours)]
    if shown:
        rows.append(("perfgate, limit of half the step", units.NOTHING, units.NOTHING, *halves))
    for name, figures in suite.rivals.items():
        found = [_share([figures.power[step]]) if step in figures.power else units.NOTHING for step in shown]
        rows.append((name, _share([figures.alarms]), _share([figures.runs]), *found))
    return Table(
        "Rules of other tools on the same samples",
        (Column("rule", figures=False), Column("false alarms"), Column("runs with one"), *map(Column, shown)),
        tuple(rows),
        "Each compares one process with one (asv: the outer with the inner two of four); runs with one: of the whole "
        "suite.",
    )


def _cases(title: str, cases: Sequence[CaseFigures]) -> Table:
    rows = [
        (
            case.case,
            units.quantity(case.time, "s"),
            _small(case.spread),
            _small(case.cycles),
            _small(case.limit),
            _small(case.detectable),
            _share([case.alarms]),
            _share([case.undecided]),
            case.advice or units.NOTHING,
        )
        for case in cases
    ]
    return Table(
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


def _groups(cases: Iterable[CaseFigures]) -> Iterator[tuple[str, list[CaseFigures]]]:
    """Group cases by how hard they are to time."""
    names = ("device clock, 20 us and more", "device clock, shorter", "wall clock", "CPU", "others")
    groups: dict[str, list[CaseFigures]] = {name: [] for name in names}
    for case in cases:
        if case.time is None:
            groups["others"].append(case)
        elif case.clock == "cpu":
            groups["CPU"].append(case)
        elif case.clock in ("device", "both"):
            groups[names[0] if case.time >= LONG_S else names[1]].append(case)
        else:
            groups["wall clock"].append(case)
    yield from ((name, found) for name, found in groups.items() if found)


def _steps(cases: Iterable[CaseFigures]) -> list[str]:
    """Give all steps, slow-downs by their size and memory after them."""
    found = dict.fromkeys(step for case in cases for step in case.power)
    return sorted(found, key=lambda step: (share_of(step) is None, share_of(step) or 0.0))


def _share(rates: Sequence[Rate]) -> str:
    """Write the mean of some rates."""
    known = [rate.share for rate in rates if rate.drawn]
    return units.share(round(statistics.fmean(known), 4)) if known else units.NOTHING


def _reached(rates: Sequence[Rate]) -> str:
    known = [rate for rate in rates if rate.drawn]
    return f"{sum(rate.share >= WANTED for rate in known)} of {len(known)}" if known else units.NOTHING


def _figures(rate: Rate) -> tuple[str, str, str]:
    interval = f"{units.share(round(rate.low, 5))} to {units.share(round(rate.high, 5))}"
    return units.share(round(rate.share, 5)) if rate.drawn else units.NOTHING, interval, f"{rate.distinct:.0f}"


def _rate(rate: Rate) -> str:
    share, interval, _ = _figures(rate)
    return f"{share} ({interval})"


def _small(value: float | None) -> str:
    return units.NOTHING if value is None else units.share(round(value, 4))


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
