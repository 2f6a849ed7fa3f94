"""Which cases were there? A table of all of them, that scripts make sortable and filterable."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from perfgate import outcomes
from perfgate.model import SEVERITY, CaseResult, MetricVerdict
from perfgate.report import words
from perfgate.report.html.case import badge, changed
from perfgate.report.html.markup import Child, Safe, identifier, number, tag
from perfgate.report.order import leading
from perfgate.report.throughput import Throughput, throughput
from perfgate.units import NOTHING, figures, quantity, share

#: Metrics of a case that get a row each; compiled code has twenty and more.
MOST = 3

# The class of each column gives its width; "n" marks figures.
_COLUMNS = (
    ("verdict", "verdict"),
    ("case", "case"),
    ("metric", "metric"),
    ("baseline", "n baseline"),
    ("now", "n now"),
    ("change", "n change"),
    ("limit", "n limit"),
    ("throughput", "n speed"),
    ("of copy", "n copy"),
    ("processes", "n processes"),
)


def table(results: Sequence[CaseResult], anchors: Mapping[int, str]) -> Safe:
    """Write the table with its controls.

    Args:
        results: the cases, in the order in which they are shown.
        anchors: of cases that have a card, by position.
    """
    several = len({result.key for result in results}) > 1
    heads = [tag("th", name, scope="col", class_=classes, data_sort=True) for name, classes in _COLUMNS]
    columns = tag("colgroup", [tag("col/", class_=classes) for _, classes in _COLUMNS])
    bodies = [_body(result, anchors.get(index), several) for index, result in enumerate(results)]
    caption = tag("caption", "All cases, the worst first", class_="hidden")
    head = tag("thead", tag("tr", heads))
    return tag(
        "div",
        _controls(results),
        # Where the window is narrow the table is moved sideways, from the keyboard too.
        tag(
            "div", tag("table", caption, columns, head, bodies, class_="cases", id="cases"), class_="wide all",
            tabindex=0, role="region", aria_label="all cases",
        ),
    )  # fmt: skip


def _controls(results: Sequence[CaseResult]) -> Safe:
    keys = list(dict.fromkeys(result.key for result in results))
    boxes = [
        tag(
            "label", tag("input/", type="checkbox", checked=True, value=word, data_verdict=True), " ",
            tag("span", word, class_=f"word {cases[0].verdict.value}"), f" {len(cases)}",
        )
        for word, cases in words.by_verdict(results).items()
    ]  # fmt: skip
    choice: Child = None
    if len(keys) > 1:
        options = [tag("option", "all", value=""), *(tag("option", key, value=key) for key in keys)]
        choice = tag("label", "hardware ", tag("select", options, id="key"))
    return tag(
        "form",
        tag("label", "filter ", tag("input/", type="search", id="filter", placeholder="words of id, metric, hardware",
                                    autocomplete="off", spellcheck="false")),
        choice,
        tag("fieldset", tag("legend", "verdicts", class_="hidden"), boxes),
        tag("output", f"{len(results)} of {len(results)} shown", id="shown", aria_live="polite"),
        class_="controls",
        aria_label="filter the table",
    )  # fmt: skip


def _body(result: CaseResult, anchor: str | None, several: bool) -> Safe:
    lead = leading(result)
    others = [metric for metric in result.metrics if metric is not lead]
    metrics = [lead, *sorted(others, key=lambda metric: SEVERITY.index(metric.verdict))] if lead is not None else []
    shown, rest = (metrics, []) if len(metrics) <= MOST + 1 else (metrics[:MOST], metrics[MOST:])
    span = str(len(shown) + bool(rest)) if len(metrics) > 1 else None
    speed = throughput(result)
    name = identifier(result.case)
    if anchor is not None:
        name = tag("a", name, href=f"#{anchor}")
    rank = 2.0 * SEVERITY.index(result.verdict) + (not words.broke(result))
    first = [
        tag("td", badge(result), data_s=rank, rowspan=span),
        tag("th", name, tag("small", result.key) if several else None, scope="row", data_s=result.case[:300],
            rowspan=span),
    ]  # fmt: skip
    if lead is None:
        now = outcomes.words(result.outcome) if words.broke(result) else NOTHING
        told = result.reason.partition("\n")[0][:200]
        rows = [tag("tr", first, tag("td", told, colspan="7", data_s=now), _processes(result, None))]
    else:
        rows = [
            tag("tr", [] if index else first, _cells(result, metric, speed), [] if index else _processes(result, span))
            for index, metric in enumerate(shown)
        ]
        if rest:
            rows.append(tag("tr", tag("td", _rest(rest), colspan="7")))
    return tag("tbody", rows, data_v=words.of_case(result), data_k=result.key)


def _rest(metrics: Sequence[MetricVerdict]) -> Safe:
    """Write the metrics that have no row of their own, one behind the other."""
    told = ", ".join(f"{metric.name} {figures(metric).value}" for metric in metrics)
    return tag("details", tag("summary", f"{len(metrics)} more"), told)


def _cells(result: CaseResult, metric: MetricVerdict, speed: Throughput | None) -> list[Safe]:
    text = figures(metric)
    broke = words.broke(result)
    fast = speed if speed is not None and speed.metric == metric.name else None
    rate, part = _rate(fast)
    value = outcomes.words(result.outcome) if broke else text.value
    change, limit = (NOTHING, NOTHING) if broke else (changed(metric), text.limit)
    mark = "" if broke else f" {metric.verdict.value}"
    return [
        tag("td", tag("bdi", metric.name), data_s=metric.name[:100]),
        tag("td", text.baseline, class_="n", data_s=_sortable(metric.baseline)),
        tag("td", value, class_="n", data_s=_sortable(metric.value)),
        tag("td", change, class_=f"n word{mark}", data_s=_sortable(metric.change)),
        tag("td", limit, class_="n", data_s=_sortable(metric.limit)),
        tag("td", rate, class_="n", data_s=_sortable(fast.bytes_per_s or fast.flops_per_s if fast else None)),
        tag("td", part, class_="n", data_s=_sortable(fast.share_of_copy if fast else None)),
    ]


def _processes(result: CaseResult, span: str | None) -> Safe:
    text = str(result.processes) if result.processes else NOTHING
    return tag("td", text, class_="n", data_s=float(result.processes), rowspan=span)


def _rate(speed: Throughput | None) -> tuple[str, str]:
    if speed is None:
        return NOTHING, NOTHING
    if speed.bytes_per_s is None:
        return quantity(speed.flops_per_s, "FLOP/s"), NOTHING
    return quantity(speed.bytes_per_s, "B/s"), share(speed.share_of_copy)


def _sortable(value: float | None) -> str:
    return number(value) if value is not None and math.isfinite(value) else ""
