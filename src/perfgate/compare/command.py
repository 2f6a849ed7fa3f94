"""What does ``perfgate compare`` print? Two stored runs side by side, the worst first."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from perfgate.compare.sides import Comparison, Row, compare
from perfgate.model import SEVERITY, Run, Verdict
from perfgate.report import run_file, words
from perfgate.report.headline import machines
from perfgate.report.table import Column, layout
from perfgate.units import NOTHING, count, quantity, together

#: At normal verbosity no more cases that are in one run only are named.
MOST = 20
_INDENT = "    "


def add_parser(commands: Any) -> None:
    """Declare the command's arguments."""
    about = "compare two stored runs: of two commits, with other software, or of two machines"
    parser = commands.add_parser(
        "compare",
        help=about,
        description=f"{about}. Ratios are B divided by A; words are given where both ran on the same hardware.",
    )
    parser.add_argument("a", metavar="A.json", type=Path, help="a run that pytest --perf-json=FILE has stored")
    parser.add_argument("b", metavar="B.json", type=Path, help="another one")
    parser.add_argument("-v", "--verbose", action="store_true", help="every case, also what is unchanged")


def run(options: argparse.Namespace) -> Iterator[str]:
    """Compare and tell.

    Raises:
        RunFileError: one of the files cannot be read.
    """
    yield from lines(run_file.read(options.a), run_file.read(options.b), verbose=options.verbose)


def lines(a: Run, b: Run, *, verbose: bool = False) -> Iterator[str]:
    """Tell how two runs differ.

    Args:
        a: one run.
        b: the other one.
        verbose: also what is unchanged.
    """
    found = compare(a, b)
    yield answer(found)
    yield f"A: {_told(a)}"
    yield f"B: {_told(b)}"
    if found.software:
        yield f"software: {', '.join(found.software)}"
    yield from _table([row for row in found.rows if verbose or row.verdict is not Verdict.UNCHANGED or row.told])
    for name, only in (("A", found.only_a), ("B", found.only_b)):
        shown = only if verbose else only[:MOST]
        if only:
            yield f"only in {name} ({count(len(only), 'case')})"
            yield from (f"{_INDENT}{result.case} on {result.key}" for result in shown)
        if len(only) > len(shown):
            yield f"{_INDENT}... {len(only) - len(shown)} more (-v shows all)"


def answer(found: Comparison) -> str:
    """Say in one line what became of the cases that are in both runs."""
    cases: dict[tuple[str, str, str], list[Row]] = {}
    for row in found.rows:
        cases.setdefault((row.case, row.key_a, row.key_b), []).append(row)
    tally = Counter(_word(rows) for rows in cases.values())
    parts = [f"{tally[word]} {words.verdict(word)}" for word in SEVERITY if tally[word]]
    if parts and tally[None]:
        parts.append(f"{tally[None]} compared by ratios alone")
    if parts:
        told = f"{', '.join(parts)} of {count(len(cases), 'case')}"
    else:
        told = f"{count(len(cases), 'case')} compared by ratios alone" if cases else "no case is in both runs"
    only = [f"{len(each)} only in {name}" for name, each in (("A", found.only_a), ("B", found.only_b)) if each]
    return "; ".join([told, *only])


def _word(rows: Sequence[Row]) -> Verdict | None:
    """Give the word of a case: the worst of its metrics', if they have any.

    A case is unchanged only where each of its metrics is.
    """
    given = [row.verdict for row in rows if row.verdict is not None]
    word = min(given, key=SEVERITY.index) if given else None
    return None if word is Verdict.UNCHANGED and len(given) < len(rows) else word


def _told(run: Run) -> str:
    where = " and ".join(machines([run], run.results)) or "no case"
    return f"{run.commit or 'commit not known'}, {run.started}, {where}"


def _table(rows: Sequence[Row]) -> Iterator[str]:
    if not rows:
        return
    columns = (
        Column("case", figures=False), Column("metric", figures=False), Column("A"), Column("B"), Column("B / A"),
        Column("interval"), Column("verdict", figures=False),
    )  # fmt: skip
    cells = [_cells(row, new=index == 0 or rows[index - 1].case != row.case) for index, row in enumerate(rows)]
    table = layout(columns, cells)
    yield ""
    yield table.heading()
    for row, texts in zip(rows, cells, strict=True):
        yield from table.row(texts)
        if row.told and row.metric:
            yield f"{_INDENT}{row.told}"
    yield ""


def _cells(row: Row, *, new: bool) -> tuple[str, ...]:
    case = row.case if row.key_a == row.key_b else f"{row.case} ({row.key_a} -> {row.key_b})"
    a, b = together([row.a, row.b], row.unit)
    interval = NOTHING if row.low is None or row.high is None else f"[{ratio(row.low)}, {ratio(row.high)}]"
    word = words.verdict(row.verdict) if row.verdict is not None else NOTHING
    if not row.metric:
        word = f"{word}: {row.told}" if row.verdict is not None else row.told
    return case if new else "", row.metric, a, b, ratio(row.ratio), interval, word


def ratio(value: float | None) -> str:
    """Write a ratio with the digits that show a change of a tenth of a percent, e.g. ``1.042``."""
    if value is None:
        return NOTHING
    return f"{value:.3f}" if 0.01 <= value < 100 else quantity(value, "1")
