"""What does ``perfgate diff`` do? It shows how recorded baselines differ from older ones, before they are committed."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from perfgate.baseline import diff
from perfgate.baseline.diff import Comparison, Difference
from perfgate.errors import SettingError
from perfgate.report import whole_file
from perfgate.report.escape import code
from perfgate.report.table import Column, layout
from perfgate.units import NOTHING, count, percent, share, together

_HEADINGS = ("case", "hardware", "metric", "before", "now", "change", "spread")
_FIGURES_FROM = 3
#: More rows of Markdown are read by nobody, and GitHub takes no longer text.
_MOST = 200


def add_parser(commands: Any) -> None:
    """Declare the command's arguments."""
    about = "show how stored baselines differ from those of a commit, or of another folder"
    parser = commands.add_parser("diff", help=about, description=about)
    about = "a commit, or a folder of baselines (default: HEAD)"
    parser.add_argument("old", metavar="OLD", nargs="?", default="HEAD", help=about)
    about = "the folder of baselines to look at (default: baselines)"
    parser.add_argument("new", metavar="NEW", nargs="?", type=Path, default=Path("baselines"), help=about)
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="also write it to FILE, for a pull request")


def run(options: argparse.Namespace) -> Iterator[str]:
    """Compare and tell.

    Raises:
        SettingError: there is no such folder or commit.
        BaselineError: a folder cannot be read.
        RunFileError: the file cannot be written.
    """
    if not options.new.is_dir():
        raise SettingError(
            f"{options.new}: there is no such folder", "It is to hold baselines.", "perfgate diff HEAD baselines"
        )
    with tempfile.TemporaryDirectory(prefix="perfgate-diff-") as scratch:
        folder = Path(options.old)
        if not folder.is_dir():
            folder = diff.at_commit(options.old, options.new, Path(scratch))
        (old, before), (new, after) = diff.load(folder), diff.load(options.new)
    found = diff.compare(old, new)
    damages = [*before, *after]
    if options.markdown is not None:
        whole_file.write(options.markdown, markdown(found, damages), what="the comparison", setting="--markdown")
    yield from text(found, damages)


def text(found: Comparison, damages: list[str]) -> Iterator[str]:
    """Give the comparison as lines for a terminal."""
    yield f"{_counts(found)}."
    for key, lines in found.software.items():
        yield f"{key}: {', '.join(lines)}"
    yield from (f"damaged: {damage}" for damage in damages)
    if not found.differences:
        return
    columns = [Column(name, index >= _FIGURES_FROM) for index, name in enumerate(_HEADINGS)]
    rows = [_cells(each) for each in found.differences]
    for index in reversed(range(1, len(rows))):
        if rows[index][:2] == rows[index - 1][:2]:
            rows[index] = ("", "", *rows[index][2:])
    table = layout(columns, rows)
    yield ""
    yield table.heading()
    for row in rows:
        yield from table.row(row)


def markdown(found: Comparison, damages: list[str]) -> str:
    """Give the comparison as Markdown; the first line is the answer."""
    parts = [f"**{_counts(found)}.**"]
    facts = [f"- {code(key)}: {', '.join(map(code, lines))}" for key, lines in found.software.items()]
    facts += (f"- damaged: {code(damage)}" for damage in damages)
    if facts:
        parts += ["", *facts]
    shown = found.differences[:_MOST]
    if shown:
        aligned = [":--"] * _FIGURES_FROM + ["--:"] * (len(_HEADINGS) - _FIGURES_FROM)
        parts += ["", f"| {' | '.join(_HEADINGS)} |", f"| {' | '.join(aligned)} |"]
    for each in shown:
        name, key, metric, *figures = _cells(each)
        parts.append(f"| {' | '.join([code(name), code(key), code(metric), *map(code, figures)])} |")
    if left := len(found.differences) - len(shown):
        parts += ["", f"... and {count(left, 'more row')}: see them with `perfgate diff`"]
    return "\n".join(parts) + "\n"


def _counts(found: Comparison) -> str:
    number = {word: len({(d.key, d.case) for d in found.differences if d.what == word}) for word in ("gone", "new")}
    told = [f"{found.changed} of {count(found.common, 'stored case')} changed"]
    told += [f"{amount} {word}" for word, amount in number.items() if amount]
    return ", ".join(told)


def _cells(each: Difference) -> tuple[str, ...]:
    if each.what != "changed":
        word = "outcome changed" if each.what == "outcome" else each.what
        told = f"{word}: {each.note}" if each.note else word
        return each.case, each.key, told, *[NOTHING] * 4
    before, after = together([each.before, each.after], each.unit)
    spread = None if each.spread is None else round(each.spread, 3)
    return each.case, each.key, each.metric, before, after, percent(each.change), share(spread)
