"""How is a figure of a calibration written into a cell? Shares, rates with their interval, and what groups cases."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from perfgate import units
from perfgate.calibrate.figures import CaseFigures
from perfgate.calibrate.intervals import Rate
from perfgate.calibrate.steps import share_of
from perfgate.report.table import Column

#: From here on a kernel is long enough for the goals of the gate.
LONG_S = 20e-6
#: Power that a slow-down is to be found with.
WANTED = 0.95


@dataclass(frozen=True)
class Table:
    """A table: what it says, its columns, its rows, and what has to be known to read it."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def groups(cases: Iterable[CaseFigures]) -> Iterator[tuple[str, list[CaseFigures]]]:
    """Group cases by how hard they are to time."""
    names = ("device clock, 20 us and more", "device clock, shorter", "wall clock", "CPU", "others")
    members: dict[str, list[CaseFigures]] = {name: [] for name in names}
    for case in cases:
        if case.time is None:
            members["others"].append(case)
        elif case.clock == "cpu":
            members["CPU"].append(case)
        elif case.clock in ("device", "both"):
            members[names[0] if case.time >= LONG_S else names[1]].append(case)
        else:
            members["wall clock"].append(case)
    yield from ((name, found) for name, found in members.items() if found)


def steps(cases: Iterable[CaseFigures]) -> list[str]:
    """Give all steps, slow-downs by their size and memory after them."""
    found = dict.fromkeys(step for case in cases for step in case.power)
    return sorted(found, key=lambda step: (share_of(step) is None, share_of(step) or 0.0))


def share(rates: Sequence[Rate]) -> str:
    """Write the mean of some rates."""
    known = [rate.share for rate in rates if rate.drawn]
    return units.share(round(statistics.fmean(known), 4)) if known else units.NOTHING


def reached(rates: Sequence[Rate]) -> str:
    """Write how many of some rates reach the power that is wanted."""
    known = [rate for rate in rates if rate.drawn]
    return f"{sum(rate.share >= WANTED for rate in known)} of {len(known)}" if known else units.NOTHING


def interval(rate: Rate) -> str:
    """Write the interval of a rate."""
    return f"{units.share(round(rate.low, 5))} to {units.share(round(rate.high, 5))}"


def figures(rate: Rate) -> tuple[str, str, str]:
    """Write a rate, its interval, and how many independent comparisons it is worth."""
    worth = f"{rate.distinct:.0f}" if rate.distinct >= 10 else f"{rate.distinct:.1f}".removesuffix(".0")
    return units.share(round(rate.share, 5)) if rate.drawn else units.NOTHING, interval(rate), worth


def bounded(rate: Rate) -> str:
    """Write a rate with its interval."""
    found, between, _ = figures(rate)
    return f"{found} ({between})"


def small(value: float | None) -> str:
    """Write a small share."""
    return units.NOTHING if value is None else units.share(round(value, 4))
