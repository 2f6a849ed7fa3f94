"""Which whole files did cases attach? They are in the page itself, to be saved from there, and nowhere else needed."""

from __future__ import annotations

from collections.abc import Sequence

from perfgate.model import CaseResult
from perfgate.report.html.markup import Safe, data, identifier, tag


def files(results: Sequence[CaseResult]) -> list[Safe]:
    """Write a list of the files of all cases; nothing where there are none."""
    facts = [
        tag(
            "div",
            tag("dt", identifier(result.case), " ", tag("small", result.key)),
            tag("dd", tag("ul", [tag("li", _link(name, text)) for name, text in result.attached.items()])),
        )
        for result in results
        if result.attached
    ]
    return [tag("dl", facts, class_="facts files")] if facts else []


def _link(name: str, text: str) -> Safe:
    return tag("a", name, href=data(text), download=name)
