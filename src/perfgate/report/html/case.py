"""What does the page say about one case that is not unchanged? All that is known, in one card."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping

from perfgate import outcomes
from perfgate.measure import notes
from perfgate.model import CaseResult, MetricVerdict
from perfgate.report import hints, words
from perfgate.report.html import plots
from perfgate.report.html.history import History, drawn
from perfgate.report.html.markup import Child, Safe, identifier, tag
from perfgate.report.order import leading
from perfgate.report.terminal import reasons
from perfgate.report.throughput import throughput
from perfgate.units import NOTHING, condition, count, figures, quantity

_HEADINGS = ("metric", "baseline", "now", "change", "interval", "limit", "verdict")


def identity(index: int) -> str:
    """Give the anchor of a case's card."""
    return f"case-{index}"


def badge(result: CaseResult) -> Safe:
    """Write a case's verdict as a word with a colour."""
    return tag("span", words.of_case(result), class_=f"badge {result.verdict.value}")


def card(result: CaseResult, index: int, base: str = "", history: History | None = None) -> Safe:
    """Write the card of a case.

    Args:
        result: the case.
        index: its number on the page.
        base: the ref that it was compared with; "" for a stored baseline.
        history: gives the series of a metric over past runs.
    """
    facts = [part for part in _facts(result) if part is not None]
    return tag(
        "article",
        tag(
            "header",
            badge(result),
            tag("h3", tag("a", identifier(result.case), href=f"#{identity(index)}")),
            tag("p", _subtitle(result), class_="quiet"),
        ),
        [tag("p", reason, class_="reason") for reason in _reasons(result)],
        _metrics(result),
        _history(result, history),
        tag("dl", facts, class_="facts") if facts else None,
        _commands(result, base),
        id=identity(index),
        class_=f"card {result.verdict.value}",
    )


def _subtitle(result: CaseResult) -> str:
    parts = [result.key]
    if result.processes:
        parts.append(count(result.processes, "process", "processes"))
    if words.broke(result):
        parts.append(outcomes.words(result.outcome))
    speed = throughput(result)
    if speed is not None:
        parts.append(speed.text())
    return " · ".join(parts)


def _reasons(result: CaseResult) -> list[str]:
    apart = {*result.kernel_differences}
    return [line for line in reasons(result) if line not in apart]


def _metrics(result: CaseResult) -> Safe | None:
    if not result.metrics:
        return None
    broke = words.broke(result)
    rows = [_row(metric, broke) for metric in result.metrics]
    drawn = any(plots.change(metric) or plots.values(metric) for metric in result.metrics) and not broke
    # The class of a heading gives the width of its column; "n" marks figures.
    heads = [
        tag("th", word, scope="col", class_=word if word in ("metric", "verdict") else f"n {word}")
        for word in _HEADINGS
    ]
    if drawn:
        heads += [
            tag("th", "change against limit", scope="col", class_="plot"),
            tag(
                "th", "processes: ", tag("span", "baseline", class_="key before"), " ",
                tag("span", "now", class_="key now"), scope="col", class_="plot",
            ),
        ]  # fmt: skip
    table = tag("table", tag("thead", tag("tr", heads)), tag("tbody", rows), class_="metrics")
    return tag("div", table, class_="wide", tabindex=0, role="region", aria_label="metrics")


def _row(metric: MetricVerdict, broke: bool) -> Safe:
    text = figures(metric)
    # What a case that did not finish left behind is no measurement.
    now = (NOTHING,) * 4 if broke else (text.value, changed(metric), text.interval, text.limit)
    cells = [tag("th", tag("bdi", metric.name), scope="row"), tag("td", text.baseline, class_="n")]
    cells += [tag("td", cell, class_="n") for cell in now]
    word = NOTHING if broke else words.verdict(metric.verdict)
    cells.append(tag("td", tag("span", word, class_=f"word {metric.verdict.value}"), class_="verdict"))
    if not broke:
        cells += [tag("td", plots.change(metric)), tag("td", plots.values(metric))]
    return tag("tr", cells, class_=metric.verdict.value)


def changed(metric: MetricVerdict) -> Child:
    """Write the change of a metric; where it is not that of the values beside it, what it is in stands below."""
    text, told = figures(metric).change, words.in_cycles(metric)
    return [text, " ", tag("small", "in cycles", title=told)] if told else text


def _facts(result: CaseResult) -> Iterator[Safe | None]:
    yield _fact("software", _software(result))
    if result.baseline_commit or result.baseline_date:
        yield _fact("baseline", [" ".join(filter(None, (result.baseline_commit, result.baseline_date)))])
    yield _fact("compiled kernels", result.kernel_differences)
    yield _fact("launched as", _changed(result.baseline_notes, result.notes))
    yield _fact("conditions", [", ".join(condition(name, value) for name, value in result.conditions.items())])
    if result.copy_bandwidth is not None:
        yield _fact("copy bandwidth", [quantity(result.copy_bandwidth, "B/s")])
    yield _fact("reported", [", ".join(f"{each.name} {quantity(each.value, each.unit)}" for each in result.reported)])
    yield _fact("method", [", ".join(f"{name} {value}" for name, value in sorted(result.method.items()))])


def _software(result: CaseResult) -> list[str]:
    now, before = result.environment, result.baseline_environment
    if not before:
        return [", ".join(f"{name} {version}" for name, version in sorted(now.items()))]
    changes = [
        f"{name} {before.get(name, 'not recorded')} → {now.get(name, 'not recorded')}"
        for name in sorted({**before, **now})
        if before.get(name) != now.get(name)
    ]
    same = ", ".join(f"{name} {version}" for name, version in sorted(now.items()))
    return changes or [f"as the baseline's: {same}"]


def _changed(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for name in sorted({**before, **now}):
        old, new = before.get(name), now.get(name)
        if old is not None and new is not None and notes.choices(old) != notes.choices(new):
            yield f"{name}: {old} → {new}"
        else:
            yield f"{name}: {new if new is not None else f'{old} (baseline; nothing noted now)'}"


def _fact(name: str, lines: Iterable[str]) -> Safe | None:
    told = [line for line in lines if line]
    if not told:
        return None
    # A page may hold thousands of facts: only those of several lines are lists.
    content = told if len(told) == 1 else tag("ul", [tag("li", line) for line in told])
    return tag("div", tag("dt", name), tag("dd", content))


def _history(result: CaseResult, history: History | None) -> Safe | None:
    metric = leading(result)
    if history is None or metric is None:
        return None
    series = history(result.case, result.key, metric.name)
    if series is None or len(series.values) < 2:
        return None
    drawing = drawn(series, metric.unit)
    return tag("figure", drawing, tag("figcaption", f"history of {metric.name}"), class_="history") if drawing else None


def _commands(result: CaseResult, base: str) -> Safe:
    mode = f"--perf-ab={shlex.quote(base)}" if base else "--benchmark-compare"
    again = f"pytest {mode} {shlex.quote(result.case)}"
    told = hints.for_sides(result.verdict, [result], base) if base else hints.for_cases(result.verdict, [result])
    steps = [_command(step) for step in told if again not in step]
    return tag("div", _command(f"reproduce: {again}"), steps, class_="commands")


def _command(step: str) -> Safe:
    """Write a next step, its command so that it can be copied."""
    what, colon, command = step.partition(": ")
    if not colon or not re.match(r"(pytest|perfgate|git) ", command):
        return tag("p", step)
    return tag("p", f"{what}: ", tag("code", command, class_="copy"))
