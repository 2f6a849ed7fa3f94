"""Where does each published figure stand beside ours, as a table that a spreadsheet opens? None of them is left out.

A published figure without one of ours says why: how the case ended, that no run has it, or what the file of published
figures knows of it.
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


def table(results: Sequence[CaseResult], published: Sequence[Published], recorded: Sequence[CaseResult] = ()) -> str:
    """Write all published figures as CSV, in their order, each with ours of every case and machine it is a figure of.

    Args:
        results: the cases of the runs.
        published: what others have published; in base units.
        recorded: what baselines say of cases that no run has.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for each in published:
        writer.writerows(_rows(each, results, recorded))
    return text.getvalue()


def _rows(
    published: Published, results: Sequence[CaseResult], recorded: Sequence[CaseResult]
) -> Iterator[tuple[str, ...]]:
    theirs = _figure(published.value) if published.value is not None else published.text
    about = (published.metric, published.unit, theirs, published.hardware)
    name = f"{published.folder}/{published.case}" if published.folder else published.case
    if not published.metric:
        yield (name, *about, "", "", "", "", published.absent)
        return
    nowhere = "no run and no baseline has this case" if recorded else "no run has this case"
    # What is known beforehand is known of a run; a baseline lacks what a case only reports.
    own = [(each, published.absent or f"it has no {published.metric}") for each in results]
    own += [(each, f"its baseline has no {published.metric}") for each in recorded]
    own = [(each, none) for each, none in own if published.is_of(each.case)]
    for result, none in own:
        found = [] if result.verdict is Verdict.REMOVED else beside([published], [result])
        if found and found[0].word == "" and found[0].unit != published.unit:
            yield (result.case, *about, "", result.key, "", result.outcome.value, f"ours is in {found[0].unit}")
        elif found:
            yield (result.case, *about, *_ours(found[0]), result.outcome.value, "")
        elif result.verdict is Verdict.REMOVED:
            yield (result.case, *about, "", result.key, "", "", nowhere)
        else:
            why = none if result.outcome is Outcome.PASSED else result.reason
            yield (result.case, *about, "", result.key, "", result.outcome.value, why)
    if not own:
        yield (name, *about, "", "", "", "", nowhere)


def _ours(row: Beside) -> tuple[str, str, str]:
    ours = row.word or (_figure(row.ours) if row.ours is not None else "")
    return ours, row.key, _figure(row.ratio) if row.ratio is not None else ""


def _figure(value: float) -> str:
    return f"{value:.{_DIGITS}g}"
