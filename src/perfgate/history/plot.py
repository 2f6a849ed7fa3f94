"""How does a series look in a few lines of text? Braille dots, or plain ASCII where they cannot be written."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

#: Rows of text of a plot, and the most columns.
ROWS, COLUMNS = 4, 60

# Bits of the eight dots of a braille character, by column and row.
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_BLANK = 0x2800
_MARKS = {"unicode": ("▲", "┤"), "ascii": ("^", "|")}


def can_draw(encoding: str | None) -> bool:
    """Tell whether an encoding has what a plot is drawn with."""
    try:
        "⣿▲┤".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def lines(
    values: Sequence[float],
    changes: Sequence[int],
    labels: tuple[str, str],
    *,
    unicode: bool,
    columns: int = COLUMNS,
) -> list[str]:
    """Draw a series, and marks below it where it changed.

    Args:
        values: finite figures, the oldest first.
        changes: places of the first values at a new level.
        labels: the greatest and the least value as text.
        unicode: whether braille dots can be written.
        columns: how many characters the plot may be wide.
    """
    wide, high = (columns * 2, ROWS * 4) if unicode else (columns, ROWS)
    steps = min(wide, len(values))
    parts = [values[len(values) * i // steps : len(values) * (i + 1) // steps] for i in range(steps)]
    least, most = min(values), max(values)
    span = most - least
    grid = [[False] * steps for _ in range(high)]
    for place, part in enumerate(parts):
        # Of several nights in one column the middle one; a spike that stands alone there is in the list of points.
        shown = statistics.median(part)
        level = round((shown - least) / span * (high - 1)) if span else 0
        grid[high - 1 - level][place] = True
    rows = _braille(grid) if unicode else ["".join("*" if dot else " " for dot in row) for row in grid]
    mark, axis = _MARKS["unicode" if unicode else "ascii"]
    width = max(map(len, labels))
    names = [labels[0], *[""] * (len(rows) - 2), labels[1]]
    drawn = [f"{name:>{width}} {axis}{row}".rstrip() for name, row in zip(names, rows, strict=True)]
    if changes:
        below = [" "] * columns
        for change in changes:
            place = next(i for i in range(steps) if len(values) * (i + 1) // steps > change)
            below[place // 2 if unicode else place] = mark
        drawn.append(f"{'':>{width}}  {''.join(below)}".rstrip())
    return drawn


def _braille(grid: list[list[bool]]) -> list[str]:
    steps = len(grid[0])
    rows = []
    for top in range(0, len(grid), 4):
        row = ""
        for left in range(0, steps, 2):
            bits = sum(_DOTS[x][y] for x in range(min(2, steps - left)) for y in range(4) if grid[top + y][left + x])
            row += chr(_BLANK + bits)
        rows.append(row)
    return rows
