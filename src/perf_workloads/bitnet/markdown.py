"""How is the report read as Markdown?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from perf_workloads.bitnet.table import Table
from perf_workloads.bitnet.tables import tables, title


def to_markdown(report: Mapping[str, Any]) -> str:
    """Write a report as Markdown."""
    return "\n\n".join([f"# {title(report)}", *map(_section, tables(report))]) + "\n"


def _section(table: Table) -> str:
    parts = [f"## {table.title}", table.text, "\n".join([_row(table.columns), _row(["---"] * len(table.columns))])]
    return "\n\n".join(part for part in parts if part) + "".join("\n" + _row(row) for row in table.rows)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("\\", "\\\\").replace("|", "\\|") for cell in cells) + " |"
