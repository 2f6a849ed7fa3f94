"""What stands on the page, in which order, and what may a browser do with it? One document that fetches nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources

from perfgate.model import CaseResult, Device, Run, Verdict
from perfgate.report import words
from perfgate.report.headline import headline
from perfgate.report.html import attached, case, roofline, systems, table
from perfgate.report.html.history import History
from perfgate.report.html.markup import Child, Safe, join, tag
from perfgate.report.order import worst_first
from perfgate.report.published import Published
from perfgate.units import count, quantity


def page(
    runs: Sequence[Run],
    results: Sequence[CaseResult],
    published: Sequence[Published] = (),
    problems: Sequence[str] = (),
    history: History | None = None,
) -> str:
    """Write the whole document.

    Args:
        runs: the runs that it is about.
        results: their cases, each once.
        published: figures that others published.
        problems: what went wrong with no single case.
        history: gives the series of a metric over past runs.
    """
    ordered = worst_first(results)
    told = [index for index, result in enumerate(ordered) if _has_card(result)]
    anchors = {index: case.identity(index) for index in told}
    keys = list(dict.fromkeys(result.key for result in results))
    bases = {id(result): run.base for run in runs for result in run.results}
    cards = _by_key(
        keys, [(each, case.card(each, index, bases[id(each)], history)) for index, each in enumerate(ordered)
               if index in anchors]
    )  # fmt: skip
    plots = roofline.plots(ordered, anchors)
    answer = headline(runs, results)
    parts = [
        ("changes", "Cases that are not unchanged", cards),
        ("all", "All cases", [table.table(ordered, anchors)] if ordered else []),
        ("roofline", "Roofline", [tag("div", plots, class_="plots")] if plots else []),
        ("systems", "Systems", systems.sections(ordered, published)),
        ("attached", "Attached files", attached.files(ordered)),
    ]
    there = [part for part in parts if part[2]]
    body = tag(
        "body",
        tag("header", tag("h1", answer), _counts(ordered), [_facts(run) for run in runs], class_="answer"),
        _problems(problems),
        tag("nav", [tag("a", title, href=f"#{name}") for name, title, _ in there], aria_label="sections"),
        tag("main", [tag("section", tag("h2", title), content, id=name) for name, title, content in there]),
    )
    return f"<!doctype html>\n{tag('html', _head(answer), body, lang='en')}\n"


def _head(title: str) -> Safe:
    script, style = _resource("report.js"), _resource("report.css")
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_digest(script)}'",
            f"style-src '{_digest(style)}'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    return tag(
        "head",
        tag("meta/", charset="utf-8"),
        tag("meta/", http_equiv="Content-Security-Policy", content=policy),
        tag("meta/", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta/", name="color-scheme", content="light dark"),
        tag("meta/", name="referrer", content="no-referrer"),
        # Without one a browser asks the server of the page for its icon.
        tag("link/", rel="icon", href="data:,"),
        tag("title", title),
        tag("style", Safe(style)),
        tag("script", Safe(script)),
    )


def _resource(name: str) -> str:
    return resources.files("perfgate.report.html").joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _has_card(result: CaseResult) -> bool:
    return result.verdict not in (Verdict.UNCHANGED, Verdict.SKIPPED) or words.not_judged(result)


def _by_key(keys: Sequence[str], cards: Sequence[tuple[CaseResult, Safe]]) -> list[Safe]:
    """Put cards under the hardware they are of, when there are several."""
    keys = [key for key in keys if any(result.key == key for result, _ in cards)]
    if len(keys) <= 1:
        return [written for _, written in cards]
    return [
        tag("section", tag("h3", key, class_="key"), [written for result, written in cards if result.key == key])
        for key in keys
    ]


def _counts(results: Sequence[CaseResult]) -> Safe:
    items = [
        tag("li", tag("strong", str(len(cases))), " ", tag("span", word, class_=f"word {cases[0].verdict.value}"))
        for word, cases in words.by_verdict(results).items()
    ]
    return tag("ul", items, class_="counts")


def _facts(run: Run) -> Safe:
    machine = [_device(device) for device in run.hardware.devices]
    software = ", ".join(f"{name} {version}" for name, version in sorted(run.software.items()))
    facts: list[tuple[str, Child]] = [
        ("machine", [tag("span", line, class_="line") for line in machine]),
        ("software", software),
        ("commit", tag("code", run.commit) if run.commit else "not known"),
        ("compared with", words.base(run) if run.base else None),
        ("started", run.started),
        ("duration", quantity(run.duration_s, "s")),
        ("command", tag("code", run.command, class_="copy") if run.command else None),
        ("recorded", words.recorded(run) or None),
        ("remarks", [tag("span", line, class_="line") for line in run.remarks] or None),
    ]
    return tag(
        "dl", [tag("div", tag("dt", name), tag("dd", value)) for name, value in facts if value], class_="facts run"
    )


def _device(device: Device) -> str:
    parts = [f"{count(device.count, 'thread')} of {device.name}" if device.kind == "cpu" else device.name]
    if device.kind != "cpu" and device.count > 1:
        parts[0] = f"{device.count} × {device.name}"
    if device.mig:
        parts.append(f"MIG {device.mig}")
    if device.memory_bytes:
        parts.append(quantity(device.memory_bytes, "B"))
    if device.power_limit_w is not None:
        parts.append(quantity(device.power_limit_w, "W"))
    return f"{', '.join(parts)} ({device.key})"


def _problems(problems: Sequence[str]) -> Safe | None:
    if not problems:
        return None
    return tag(
        "section", tag("h2", "Problems"), tag("ul", [tag("li", join(line)) for line in problems]), class_="problems"
    )
