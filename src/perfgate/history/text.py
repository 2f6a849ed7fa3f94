"""How are a series and a nightly report told? As lines for a terminal, as Markdown, and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from perfgate.hardware.key import printable
from perfgate.history import plot
from perfgate.history.nightly import Finding, Report
from perfgate.history.query import Series, date, differences
from perfgate.units import count, percent, together

#: The last so many points of a series are listed.
LISTED = 10
_TITLES: dict[str, Callable[[Finding], bool]] = {
    "new change points": lambda one: (one.kind, one.state) == ("change", "new"),
    "slow drifts, each night inside its limit": lambda one: (one.kind, one.state) == ("drift", "new"),
    "cases that became noisier": lambda one: (one.kind, one.state) == ("noisier", "new"),
    "corrections: told before with other commits": lambda one: one.state == "moved",
    "corrections: told before and no longer seen": lambda one: one.state == "gone",
}
_INDENT = "    "
# No more machines are named in one line.
_HOSTS = 5
# No more nights are named one by one.
_DAYS = 3


def of_series(series: Series, *, unicode: bool, points: int = LISTED) -> Iterator[str]:
    """Tell a series: a plot, its change points, and its last points.

    Args:
        series: what to tell.
        unicode: whether braille dots can be written.
        points: so many of the last points are listed.
    """
    yield printable(series.case)
    where = f"{_INDENT}{printable(series.metric)} on {printable(series.key)}"
    values = together(series.values, series.unit)
    if series.published:
        yield f"{where}: {', '.join(values)} (published; shown, never judged)"
        return
    runs = count(len(values), "run")
    yield f"{where}, {runs} from {_day(series.dates[0])} to {_day(series.dates[-1])}"
    if len(values) > 1:
        labels = tuple(together([max(series.values), min(series.values)], series.unit))
        places = [change.index for change in series.changes]
        drawn = plot.lines(series.values, places, (labels[0], labels[1]), unicode=unicode)
        yield from (f"{_INDENT}{line}" for line in drawn)
    for change, beside in zip(series.changes, series.beside, strict=True):
        levels = together([change.before, change.after], series.unit)
        yield (
            f"{_INDENT}{_day(series.dates[change.index])}: {levels[0]} -> {levels[1]} ({_size(change.share)}, "
            f"{_worse(change.after > change.before, series.better)}), "
            f"commits {commits(series.commits[change.earliest - 1], series.commits[change.latest], beside)}"
            f"{_uncertain(series.dates[change.earliest : change.latest + 1])}"
        )
    if len(values) >= 2 and not series.changes:
        yield f"{_INDENT}no change point"
    for place in range(max(0, len(values) - points), len(values)):
        told = [_day(series.dates[place]), printable(series.commits[place]) or "?", values[place]]
        if (verdict := series.verdicts[place]) not in ("", "unchanged"):
            told.append(verdict.replace("_", " "))
        if place >= len(values) - series.future:
            told.append("dated in the future, not judged")
        yield f"{_INDENT}{_INDENT}{'  '.join(told)}"


def of_report(report: Report, nights: int) -> Iterator[str]:
    """Tell what is new; one line when nothing is."""
    yield _headline(report, nights)
    if report.future:
        yield f"careful: {_ahead(report, printable)}"
    for title, belongs in _TITLES.items():
        found = list(filter(belongs, report.findings))
        if found:
            yield f"{title} ({len(found)})"
        for finding in found:
            yield f"{_INDENT}{printable(finding.name.case)}"
            metric, key = printable(finding.name.metric), printable(finding.name.key)
            yield f"{_INDENT}{_INDENT}{metric} on {key}: {_told(finding)}"


def markdown(report: Report, nights: int) -> Iterator[str]:
    """Tell what is new for a summary or an issue on GitHub."""
    yield f"**{_headline(report, nights)}**"
    if report.future:
        yield ""
        yield f"Careful: {_ahead(report, _cell)}"
    for title, belongs in _TITLES.items():
        found = list(filter(belongs, report.findings))
        if found:
            yield ""
            yield f"### {title[0].upper()}{title[1:]} ({len(found)})"
            yield ""
            yield "| case | figure | hardware | what | since | commits |"
            yield "|---|---|---|---|---|---|"
        for finding in found:
            name = finding.name
            cells = (name.case, name.metric, name.key, _what(finding), _since(finding), _range(finding))
            yield f"| {' | '.join(map(_cell, cells))} |"


def to_json(report: Report, nights: int) -> dict[str, Any]:
    """Give what is new as JSON values."""
    return {
        "nights": nights,
        "series": report.series,
        "until": date(report.until_s),
        "future": [{"date": date(run.started_s), "host": run.host, "revision": run.revision} for run in report.future],
        "findings": [
            {
                "kind": each.kind,
                "state": each.state,
                "case": each.name.case,
                "key": each.name.key,
                "metric": each.name.metric,
                "unit": each.name.unit,
                "worse": each.worse,
                "before": each.before,
                "after": each.after,
                "share": each.share,
                "since": date(each.since.run.started_s),
                "was": date(each.was.run.started_s) if each.was else None,
                "nights": [date(night.run.started_s) for night in each.nights],
                "last_good": each.last_good.run.revision,
                "first_bad": each.nights[-1].run.revision,
                "beside": _beside(each),
            }
            for each in report.findings
        ],
    }


def series_to_json(series: Series) -> Mapping[str, Any]:
    """Give a series as JSON values."""
    changes = [{**asdict(change), "share": change.share} for change in series.changes]
    return {**asdict(series), "changes": changes}


def commits(last_good: str, first_bad: str, beside: Sequence[str] = ()) -> str:
    """Write the commits that lie between two nights, as git reads it, and what else changed."""
    last_good, first_bad = printable(last_good), printable(first_bad)
    same = last_good == first_bad
    text = f"{first_bad or '?'} in both: not the code" if same else f"{last_good or '?'}..{first_bad or '?'}"
    return f"{text}; also {', '.join(map(printable, beside))}" if beside else text


def _headline(report: Report, nights: int) -> str:
    span = "the last night" if nights == 1 else f"the last {nights} nights"
    if not report.series:
        return "the history has no figure yet" if not report.future else "the history has no figure up to now"
    new = [finding for finding in report.findings if finding.state == "new"]
    worse = sum(finding.worse for finding in new)
    corrected = len(report.findings) - len(new)
    more = f", {count(corrected, 'correction')}" if corrected else ""
    looked = f"{count(report.series, 'figure')} until {_day(date(report.until_s))}"
    if not new:
        return f"nothing new in {span}{more}: {looked}"
    return f"{count(worse, 'figure')} got worse, {len(new) - worse} better{more}, in {span}: {looked}"


def _ahead(report: Report, safe: Callable[[str], str]) -> str:
    """Name the runs that are dated after now, and their machines."""
    runs = report.future
    hosts = list(dict.fromkeys(safe(run.host) or "an unknown machine" for run in runs))
    more = f" and {count(len(hosts) - _HOSTS, 'more machine')}" if len(hosts) > _HOSTS else ""
    dates = list(dict.fromkeys(_day(date(run.started_s)) for run in (runs[0], runs[-1])))
    return (
        f"{count(len(runs), 'run is', 'runs are')} dated in the future ({' to '.join(dates)}, from "
        f"{', '.join(hosts[:_HOSTS])}{more}) and left out here until then: is the clock there right?"
    )


def _told(finding: Finding) -> str:
    return f"{_what(finding)}, {_since(finding, 'since ')}, commits {_range(finding)}"


def _since(finding: Finding, word: str = "") -> str:
    day = _day(date(finding.since.run.started_s))
    if finding.was is not None:
        return f"now dated {day}, was {_day(date(finding.was.run.started_s))}"
    return f"{word}{day}"


def _range(finding: Finding) -> str:
    """Write the commits; of a change what is uncertain about them, of a drift or noise those of all its nights."""
    text = commits(finding.last_good.run.revision, finding.nights[-1].run.revision, _beside(finding))
    if finding.kind != "change":
        return text
    return text + _uncertain([date(night.run.started_s) for night in finding.nights])


def _uncertain(dates: Sequence[str]) -> str:
    """Name the nights of which one was the first, where there are several."""
    days = list(dict.fromkeys(map(_day, dates)))
    if len(days) < 2:
        return ""
    return f" (night uncertain: one of {', '.join(days) if len(days) <= _DAYS else f'{days[0]} to {days[-1]}'})"


def _beside(finding: Finding) -> tuple[str, ...]:
    return differences(finding.last_good.run, finding.nights[-1].run)


def _what(finding: Finding) -> str:
    before, after = together([finding.before, finding.after], finding.name.unit)
    if finding.kind == "noisier":
        ratio = f"{finding.after / finding.before:.1f} times the spread" if finding.before else "it repeated before"
        return f"spread {before} -> {after} ({ratio})"
    word = _worse(finding.after > finding.before, finding.name.better)
    return f"{before} -> {after} ({_size(finding.share)}, {word})"


def _size(share: float | None) -> str:
    return percent(share) if share is not None else "from nothing"


def _worse(up: bool, better: str) -> str:
    return "worse" if up == (better == "lower") else "better"


def _day(text: str) -> str:
    return text[:10] or "?"


def _cell(text: str) -> str:
    """Make a text from anywhere fit for a cell of a Markdown table."""
    plain = printable(text).replace("\\", "\\\\")
    for mark, stand_in in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("`", "\\`")):
        plain = plain.replace(mark, stand_in)
    for mark in "*_[]#@":
        plain = plain.replace(mark, f"\\{mark}" if mark != "@" else "&#64;")
    return plain
