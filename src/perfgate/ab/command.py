"""What does ``perfgate affected`` do? Name the cases that a change can reach, as arguments for pytest."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from perfgate.units import count


def add_parser(commands: Any) -> None:
    """Declare the command's arguments."""
    about = "name the cases that can differ between the working tree and a commit, as arguments for pytest"
    parser = commands.add_parser(
        "affected",
        help=about,
        description=f"{about}. What changed since the last commit that both share counts, committed or not. Prints "
        "nothing when no case can be reached: run pytest only if there is something to run.",
    )
    parser.add_argument("ref", metavar="REF", help="the commit, e.g. origin/main")
    parser.add_argument("--json", action="store_true", help="print arguments, reason and changed files as JSON")


def run(options: argparse.Namespace) -> Iterator[str]:
    """Find what is affected, and tell; what a reader should know goes to the standard error.

    Raises:
        SettingError: there is no such commit, or no repository.
    """
    from perfgate.ab import affected

    found = affected.find(options.ref, Path.cwd())
    if options.json:
        yield json.dumps(asdict(found), indent=1)
        return
    yield from found.arguments
    changed = count(len(found.changed), "changed file")
    if found.everything:
        told = f"all cases: {found.everything} reaches them all"
    elif found.arguments:
        told = f"{changed}: {count(len(found.arguments), 'argument')} for pytest"
    else:
        told = f"no case: none can be reached by {changed}"
    print(f"perfgate: {told}", file=sys.stderr)
