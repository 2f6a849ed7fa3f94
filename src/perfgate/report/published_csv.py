"""Where does each published figure stand beside ours, as a table that a spreadsheet opens? None of them is left out.

A published figure without one of ours says why: how the case ended, or that no run has it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from perfgate.model import CaseResult, Outcome, Verdict
from perfgate.report.published import Beside, Published, beside

COLUMNS = ("case", "metric", "unit", "published", "published on", "ours", "on", "times", "outcome", "why not")
#: As many digits as any figure here deserves.
_DIGITS = 5


def table(results: Sequence[CaseResult], published: Sequence[Published]) -> str:
    """Write all published figures as CSV, in their order, each with ours of every case and machine it is a figure of.

    Args:
        results: the cases of the runs.
        published: what others have published; in base units.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for each in published:
        writer.writerows(_rows(each, results))
    return text.getvalue()


def _rows(published: Published, results: Sequence[CaseResult]) -> Iterator[tuple[str, ...]]:
    theirs = _figure(published.value) if published.value is not None else published.text
    about = (published.metric, published.unit, theirs, published.hardware)
    own = [result for result in results if published.is_of(result.case)]
    for result in own:
        found = [] if result.verdict is Verdict.REMOVED else beside([published], [result])
        if found and found[0].word == "" and found[0].unit != published.unit:
            yield (result.case, *about, "", result.key, "", result.outcome.value, f"ours is in {found[0].unit}")
        elif found:
            yield (result.case, *about, *_ours(found[0]), result.outcome.value, "")
        elif result.verdict is Verdict.REMOVED:
            yield (result.case, *about, "", result.key, "", "", "no run has this case")
        else:
            why = result.reason if result.outcome is not Outcome.PASSED else f"it reported no {published.metric}"
            yield (result.case, *about, "", result.key, "", result.outcome.value, why)
    if not own:
        name = f"{published.folder}/{published.case}" if published.folder else published.case
        yield (name, *about, "", "", "", "", "no run has this case")


def _ours(row: Beside) -> tuple[str, str, str]:
    ours = row.word or (_figure(row.ours) if row.ours is not None else "")
    return ours, row.key, _figure(row.ratio) if row.ratio is not None else ""


def _figure(value: float) -> str:
    return f"{value:.{_DIGITS}g}"
