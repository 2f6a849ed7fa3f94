"""What does ``perfgate history`` do? Tells what is new, shows a case over the nights, and adds files."""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from perfgate.errors import HistoryError, SettingError
from perfgate.history.place import DEFAULT, VARIABLE, locate, shown
from perfgate.units import count

#: No more series are shown at once.
MOST = 12

_USAGE = """perfgate history [CASE] [--history URL] [--json]
       perfgate history show CASE [--points N]
       perfgate history report [--nights N] [--markdown]
       perfgate history import FILE ..."""


def add_parser(commands: Any) -> None:
    """Declare the command's arguments."""
    about = "tell what the last nights brought to light, show one case over the nights, or add runs"
    parser = commands.add_parser("history", help=about, description=about, usage=_USAGE)
    about = "part of a case's name, or report, show CASE, or import FILE ... (default: report)"
    parser.add_argument("words", metavar="CASE", nargs="*", help=about)
    about = f"path or address of the history (default: ${VARIABLE}, else {DEFAULT})"
    parser.add_argument("--history", metavar="URL", default="", help=about)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--markdown", action="store_true", help="print the report as Markdown")
    parser.add_argument("--nights", metavar="N", type=int, default=1, help="report what the last N nights brought")
    parser.add_argument("--points", metavar="N", type=int, default=10, help="list the last N points of a case")


def run(options: argparse.Namespace) -> Iterable[str]:
    """Do what the first word says.

    Args:
        options: the command line.

    Raises:
        SettingError: the command line cannot be used, or a package is missing.
        HistoryError: the history cannot be read, nothing is found, or a file cannot be added.
    """
    first, *rest = options.words or ["report"]
    if options.nights < 1 or options.points < 0:
        raise SettingError("perfgate history: --nights is 1 or more, --points is 0 or more")
    if first == "import":
        if not rest:
            raise SettingError("perfgate history import: no file is named", hint="perfgate history import FILE ...")
        return _import(_address(options), [Path(word) for word in rest])
    if first == "report" and not rest:
        return _report(_address(options), options)
    if first == "show":
        if len(rest) != 1:
            raise SettingError("perfgate history show: name one case", hint="perfgate history show CASE")
        first, rest = rest[0], []
    if rest:
        words = " ".join(options.words)
        raise SettingError(f"perfgate history: {words!r} is more than one case", hint="perfgate history CASE")
    return _show(_address(options), first, options)


def _address(options: argparse.Namespace) -> str:
    return locate(options.history, Path.cwd(), "--history" if options.history else "perfgate history")


def _import(address: str, files: list[Path]) -> Iterator[str]:
    from perfgate.history.importing import add_files
    from perfgate.history.store import History

    with contextlib.ExitStack() as stack:
        # A history that nothing is added to is not made.
        yield from add_files(files, functools.cache(lambda: stack.enter_context(History(address))))


def _report(address: str, options: argparse.Namespace) -> Iterator[str]:
    _needs_rules()
    from perfgate.history import nightly, text
    from perfgate.history.entry import latest_s
    from perfgate.history.store import History

    latest = latest_s()
    with History(address, create=False) as history:
        future = history.later(latest)
        found = nightly.report(history.everything(), history.last_s(latest), options.nights, future)
    if options.json:
        yield json.dumps(text.to_json(found, options.nights), indent=1)
    else:
        yield from (text.markdown if options.markdown else text.of_report)(found, options.nights)


def _show(address: str, case: str, options: argparse.Namespace) -> Iterator[str]:
    _needs_rules()
    from perfgate.history import plot, query, text
    from perfgate.history.store import History

    with History(address, create=False) as history:
        names = history.find(case)
        if not names:
            raise HistoryError(
                f"{shown(address)}: no case of the history has {case!r} in its name",
                hint="a case is named by its node id, or a part of it",
            )
        found = [query.of_points(name, history.points(name.id)) for name in (names if options.json else names[:MOST])]
    if options.json:
        yield json.dumps([text.series_to_json(each) for each in found], indent=1)
        return
    for each in found:
        yield from text.of_series(each, unicode=plot.can_draw(sys.stdout.encoding), points=options.points)
    if len(names) > MOST:
        more = count(len(names) - MOST, "series", "series")
        yield f"{more} more; a longer part of the name finds fewer, --json gives all"


def _needs_rules() -> None:
    """Refuse early what would fail deep inside."""
    import importlib.util

    if importlib.util.find_spec("ruptures") is None:
        raise SettingError(
            "perfgate history: ruptures is not installed, and it is what finds change points",
            hint="pip install 'perfgate[history]'",
        )
