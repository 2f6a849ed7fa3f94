"""How do rows of figures stand under each other? Plain text columns, numbers to the right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from perfgate.units import NOTHING

_GAP = "  "
# With a name that is longer than this, names stand on lines of their own.
_WIDEST_NAME = 44


@dataclass(frozen=True)
class Column:
    """One column: its heading, and whether figures stand in it."""

    heading: str
    figures: bool = True


@dataclass(frozen=True)
class Layout:
    """The columns of a table that hold anything, with their widths."""

    columns: tuple[Column, ...]
    kept: tuple[int, ...]
    widths: tuple[int, ...]

    def heading(self) -> str:
        """Write the line of headings."""
        return self._line([column.heading for column in self.columns])

    def row(self, cells: Sequence[str]) -> Iterator[str]:
        """Write one row; a first cell that is too long stands above it, whole."""
        first, *rest = cells
        if len(first) > self.widths[0]:
            yield first
            first = ""
        yield self._line([first, *rest])

    def _line(self, cells: Sequence[str]) -> str:
        return _GAP.join(
            cells[index].rjust(width) if self.columns[index].figures else cells[index].ljust(width)
            for index, width in zip(self.kept, self.widths, strict=True)
        ).rstrip()


def layout(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> Layout:
    """Fit columns to their rows; a column in which nothing but ``-`` stands is left out."""
    kept = [
        index for index in range(len(columns)) if index == 0 or any(row[index] not in ("", NOTHING) for row in rows)
    ]
    widths = []
    for index in kept:
        lengths = [len(row[index]) for row in rows]
        if index == 0 and max(lengths, default=0) > _WIDEST_NAME:
            lengths = []
        widths.append(max([len(columns[index].heading), *lengths]))
    return Layout(tuple(columns), tuple(kept), tuple(widths))
