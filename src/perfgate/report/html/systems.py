"""How does each system stand, and how do its figures compare with published ones? A section a folder of cases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from perfgate.model import CaseResult
from perfgate.report import words
from perfgate.report.html.markup import Safe, identifier, number, tag
from perfgate.report.published import Beside, Published, beside, folders
from perfgate.report.words import module
from perfgate.units import NOTHING, count, quantity

_HEADINGS = ("case", "metric", "published", "on", "ours", "on", "ours / published")
_FIGURES = (2, 4, 6)


def sections(results: Sequence[CaseResult], published: Sequence[Published]) -> list[Safe]:
    """Write a section for each folder of cases."""
    return [_section(folder, _of(folder, results), published) for folder in sorted(folders(results))]


def _of(folder: str, results: Sequence[CaseResult]) -> list[CaseResult]:
    wanted = folder or "."
    return [result for result in results if PurePosixPath(module(result.case)).parent.as_posix() == wanted]


def _section(folder: str, own: Sequence[CaseResult], published: Sequence[Published]) -> Safe:
    figures = [each for each in published if each.folder == folder]
    rows = beside(figures, own)
    verdicts = [
        tag("li", tag("span", word, class_=f"word {cases[0].verdict.value}"), f" {len(cases)}")
        for word, cases in words.by_verdict(own).items()
    ]
    return tag(
        "section",
        tag("h3", tag("bdi", folder or "the root")),
        tag("ul", tag("li", count(len(own), "case")), verdicts, class_="counts"),
        _table(rows) if rows else None,
        _sources(rows),
        _unmatched(figures, rows),
        class_="system",
    )


def _table(rows: Sequence[Beside]) -> Safe:
    heads = [
        tag("th", name, scope="col", class_="n" if place in _FIGURES else None, data_sort=True)
        for place, name in enumerate(_HEADINGS)
    ]
    bodies = [tag("tbody", tag("tr", _row(row))) for row in rows]
    table = tag("table", tag("thead", tag("tr", heads)), bodies, class_="published")
    return tag("div", table, class_="wide", tabindex=0, role="region", aria_label="published figures")


def _row(row: Beside) -> list[Safe]:
    folder = row.case.partition("::")[0].rpartition("/")[0]
    name = row.case.removeprefix(f"{folder}/")
    ours = row.word or quantity(row.ours, row.unit)
    ratio = row.ratio
    return [
        tag("th", identifier(name), scope="row", data_s=name[:300]),
        tag("td", row.published.metric, data_s=row.published.metric),
        tag("td", row.published.text, class_="n", data_s=number(row.published.value or 0.0)),
        tag("td", row.published.hardware, data_s=row.published.hardware),
        tag("td", ours, class_="n", data_s=number(row.ours) if row.ours is not None else ""),
        tag("td", row.key, data_s=row.key),
        tag("td", _times(ratio), class_="n", data_s=number(ratio) if ratio is not None else ""),
    ]


def _times(ratio: float | None) -> str:
    if ratio is None:
        return NOTHING
    return f"{ratio:.3g} ×" if 1e-3 <= ratio < 1e4 else f"{ratio:.1e} ×".replace("e", " x 10^")


def _sources(rows: Sequence[Beside]) -> Safe | None:
    sources = list(dict.fromkeys(row.published.source for row in rows if row.published.source))
    return tag("p", "published: ", "; ".join(sources), class_="quiet") if sources else None


def _unmatched(figures: Sequence[Published], rows: Sequence[Beside]) -> Safe | None:
    found = {id(row.published) for row in rows}
    absent = sum(id(each) not in found for each in figures)
    if not absent:
        return None
    return tag("p", f"{count(absent, 'published figure')} without a measured one in this report", class_="quiet")
