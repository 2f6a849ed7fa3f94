"""What is a table of the report, before it has a format?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Row = tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table of the report.

    Args:
        title: heading.
        text: what a reader has to know about it.
        columns: names of the columns.
        rows: one text a column.
        long: whether it is longer than a reader wants to see at once.
    """

    title: str
    text: str
    columns: Row
    rows: Sequence[Row]
    long: bool = False
