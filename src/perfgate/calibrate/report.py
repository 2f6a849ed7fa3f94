"""How is a calibration read? Its answer and its tables, for the terminal, and the same in Markdown for a README."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace

from perfgate import units
from perfgate.calibrate import achieving, cells
from perfgate.calibrate.figures import Suite
from perfgate.calibrate.steps import memory_label, share_of
from perfgate.calibrate.tables import tables
from perfgate.report.table import layout
from perfgate.units import count

#: Columns of a terminal that a calibration is written for: as many as there are, within these.
NARROWEST, WIDEST = 80, 120
#: Pairs from which on the rank test lets the gate say REGRESSED while more can follow.
_RANKED = 8


def lines(suite: Suite, *, every: bool = False, width: int = WIDEST) -> Iterator[str]:
    """Write a calibration for the terminal.

    Args:
        suite: what was found.
        every: every case, not the noisy ones only.
        width: columns of the terminal.
    """
    width = min(max(width, NARROWEST), WIDEST)
    for line in heading(suite):
        yield from _wrapped(line, width)
    for table in tables(suite, every=every):
        yield ""
        yield f"{table.title}:"
        yield from _columns(table, width)
        yield from _wrapped(table.note, width)


def _wrapped(text: str, width: int) -> list[str]:
    """Break text into lines, but not between a figure and its percent sign."""
    return [
        line.replace("\N{NO-BREAK SPACE}", " ")
        for line in textwrap.wrap(text.replace(" %", "\N{NO-BREAK SPACE}%"), width)
    ]


def _columns(table: cells.Table, width: int) -> Iterator[str]:
    """Write a table no wider than a terminal.

    Where it would be, or names are long, what a row begins with stands above it, once for all rows that begin so. Words
    after the figures stand below them.
    """
    columns = list(table.columns)
    rows = [list(row) for row in table.rows]
    below: list[str] = [""] * len(rows)
    if not columns[-1].figures and len(columns) > 1:
        title = columns.pop().heading
        below = [f"  {title}: {words}" if (words := row.pop()) else "" for row in rows]
    made = layout(columns, rows)
    long = any(len(row[0]) > made.widths[0] for row in rows)
    above = long or any(len(line) > width for row in rows for line in (made.heading(), *made.row(row)))
    if above:
        made = replace(made, widths=(min(made.widths[0], len(columns[0].heading) or 1), *made.widths[1:]))
    yield made.heading()
    last = ""
    for row, words in zip(rows, below, strict=True):
        if above:
            if row[0] != last:
                yield row[0]
            last = row[0]
            row = ["", *row[1:]]
        yield from made.row(row)
        if words:
            yield from textwrap.wrap(words, width, subsequent_indent="    ", drop_whitespace=False)


def markdown(suite: Suite, *, every: bool = False) -> Iterator[str]:
    """Write a calibration as Markdown."""
    yield from (f"{line}  " for line in heading(suite))
    for table in tables(suite, every=every):
        yield ""
        yield f"**{table.title}**"
        yield ""
        kept = [place for place in range(len(table.columns)) if any(row[place] for row in table.rows)]
        columns = [table.columns[place] for place in kept]
        yield _markdown_row([column.heading or " " for column in columns])
        yield _markdown_row(["---:" if column.figures else "---" for column in columns])
        yield from (_markdown_row([row[place] for place in kept]) for row in table.rows)
        if table.note:
            yield ""
            yield table.note


def heading(suite: Suite) -> Iterator[str]:
    """Say what was measured, and the answer."""
    where = f" on {count(len(suite.devices), 'GPU')}" if len(suite.devices) > 1 else ""
    limits = "" if suite.limit is None else f", all limits of time set to {units.share(suite.limit)}"
    processes = count(suite.processes, "fresh process", "fresh processes")
    yield f"{suite.key}: {count(len(suite.cases), 'case')} in {processes}{where}{limits}"
    comparisons, runs = cells.bounded(suite.alarms), cells.bounded(suite.runs)
    yield f"false alarms on unchanged code: {comparisons} of comparisons, {runs} of runs of the suite"
    if suite.in_pairs is not None:
        comparisons, runs = cells.bounded(suite.in_pairs.alarms), cells.bounded(suite.in_pairs.runs)
        yield f"in pairs of base and head (--perf-ab): {comparisons} of comparisons, {runs} of runs of the suite"
    if suite.few is not None:
        yield (
            f"careful: a confirmation had at most {suite.few} of its {suite.total} processes, and finds less than the "
            f"gate's; the pool is to have {suite.processes + suite.total - suite.few}"
        )
    if suite.few_pairs is not None:
        yield (
            f"careful: in pairs, comparisons had {_between(suite.few_pairs)} of their {suite.total} pairs, and find "
            f"less than the gate's; the pool is to have {2 * suite.total} processes on one device, all with extra work"
        )
    if suite.few_memory_pairs is not None:
        least, _ = suite.few_memory_pairs
        needed = (
            f": memory that does not repeat exactly needs {_RANKED} to be REGRESSED, unless none can follow, as here"
        )
        needed = needed if least < _RANKED else ""
        amounts = [step.removeprefix(memory_label("")) for step in cells.steps(suite.cases) if share_of(step) is None]
        other = f", or one step alone (--memory-steps {amounts[0]})," if len(amounts) > 1 else ""
        yield (
            f"careful: in pairs, comparisons of memory had {_between(suite.few_memory_pairs)} of their {suite.total} "
            f"pairs{needed}; more processes{other} give more pairs"
        )
    yield from achieving.careful(suite)
    if len(suite.commits) > 1:
        yield f"careful: measured at {len(suite.commits)} commits ({', '.join(suite.commits)})"


def _between(pairs: tuple[int, int]) -> str:
    return " to ".join(str(number) for number in dict.fromkeys(pairs))


def _markdown_row(texts: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in texts) + " |"
