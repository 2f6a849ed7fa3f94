"""How is the report read in a browser? One file that needs no other: styles and the picture of memory are inside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from perf_workloads.bitnet.table import Table
from perf_workloads.bitnet.tables import tables, title

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .15rem .7rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
td.text { text-align: left; }
div.table { overflow-x: auto; }
svg { width: 100%; height: auto; }
summary { cursor: pointer; }
"""
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 1000, 260, 70, 40
_BANDS = ("#eef3f8", "#f8f3ea")


def to_html(report: Mapping[str, Any]) -> str:
    """Write a report as one HTML file."""
    heading = escape(title(report))
    parts = [*map(_section, tables(report))]
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{heading}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{heading}</h1>\n"
        f"<h2>Resident memory</h2>\n{_picture(report)}\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )


def _section(table: Table) -> str:
    text = f"<p>{escape(table.text)}</p>\n" if table.text else ""
    body = "\n".join(_lines(table))
    if table.long:
        return f"<details>\n<summary>{escape(table.title)}</summary>\n{text}{body}\n</details>"
    return f"<h2>{escape(table.title)}</h2>\n{text}{body}"


def _lines(table: Table) -> Iterator[str]:
    yield '<div class="table"><table>'
    if any(table.columns):
        yield "<tr>" + "".join(f"<th>{escape(name)}</th>" for name in table.columns) + "</tr>"
    for row in table.rows:
        yield "<tr>" + "".join(map(_cell, row)) + "</tr>"
    yield "</table></div>"


def _cell(text: str) -> str:
    kind = "" if text[:1].isdigit() or text[:1] == "-" else ' class="text"'
    return f"<td{kind}>{escape(text)}</td>"


def _picture(report: Mapping[str, Any]) -> str:
    """Draw resident memory over time, with the stages as bands behind."""
    samples: Sequence[Mapping[str, Any]] = report["timeline"]
    last_s = float(max(sample["time_s"] for sample in samples)) or 1.0
    most = max([report["totals"]["peak_rss"], *(sample["rss"] for sample in samples)])

    def at(seconds: float) -> float:
        return _LEFT + seconds / last_s * (_WIDTH - _LEFT)

    def height(size: float) -> float:
        return float((_HEIGHT - _BOTTOM) * (1 - size / most))

    bands = [
        f'<rect x="{at(stage["start_s"]):.1f}" y="0" width="{at(stage["time_s"]) - _LEFT:.1f}" '
        f'height="{_HEIGHT - _BOTTOM}" fill="{_BANDS[number % 2]}"><title>{escape(stage["name"])}</title></rect>'
        for number, stage in enumerate(report["stages"])
    ]
    names = [
        f'<text x="{at(stage["start_s"]) + 4:.1f}" y="{_HEIGHT - 22}" font-size="12">{escape(stage["name"])}</text>'
        for stage in report["stages"]
        if stage["time_s"] > 0.08 * last_s
    ]
    points = " ".join(f"{at(sample['time_s']):.1f},{height(sample['rss']):.1f}" for sample in samples)
    peak = height(report["totals"]["peak_rss"])
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="resident memory over time">\n'
        + "\n".join([*bands, *names])
        + f'\n<line x1="{_LEFT}" x2="{_WIDTH}" y1="{peak:.1f}" y2="{peak:.1f}" stroke="#b33" stroke-dasharray="5 4"/>'
        + f'\n<polyline points="{points}" fill="none" stroke="#24578e" stroke-width="2"/>'
        + f'\n<text x="0" y="12" font-size="12">{most / 1e6:.0f} MB</text>'
        + f'\n<text x="{_WIDTH - 60}" y="{_HEIGHT - 4}" font-size="12">{last_s:.1f} s</text>\n</svg>'
    )
