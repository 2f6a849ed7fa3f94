"""What can be asked without running a test? ``perfgate hardware``, ``show``, ``prune``, ``static`` and ``tune``."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import perfgate
from perfgate.ab import command as ab
from perfgate.baseline import command as baseline
from perfgate.calibrate import command as calibrate
from perfgate.compare import command as compare
from perfgate.errors import PerfgateError, SettingError
from perfgate.github import command as github
from perfgate.history import command as history
from perfgate.report import command as report
from perfgate.static import command
from perfgate.tune import command as tune

#: Exit codes, as pytest's: 0 done, 1 it could not be done, 4 a usage error.
DONE, FAILED, USAGE = 0, 1, 4


class _Parser(argparse.ArgumentParser):
    """An argument parser that ends usage errors as pytest does."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the command line and how to get help."""
        self.exit(USAGE, f"{self.prog}: {message}\nhint: {self.prog} --help\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the command line without the program's name; None takes this process's own.

    Returns:
        The exit code.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    # What stands after -- belongs to pytest, whatever it looks like.
    split = given.index("--") if "--" in given else len(given)
    parser = _parser()
    options, more = parser.parse_known_args(given[:split])
    # Words behind an option belong to those before it.
    words = getattr(options, _WORDS.get(options.command, ""), None)
    if words is None or any(word.startswith("-") for word in more):
        if more:
            parser.error(f"unrecognized arguments: {' '.join(more)}")
    else:
        words += more
    options.pytest = given[split + 1 :]
    if options.pytest and options.command not in ("prune", "calibrate"):
        parser.error(f"perfgate {options.command} takes nothing after --")
    try:
        for line in _COMMANDS[options.command](options):
            print(line)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (head, less) has seen enough; what is still buffered has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except PerfgateError as error:
        print(f"perfgate: {error}", file=sys.stderr)
        return USAGE if isinstance(error, SettingError) else FAILED
    return DONE


def _parser() -> _Parser:
    parser = _Parser(prog="perfgate", description="Ask about this machine, a stored run, or the stored baselines.")
    parser.add_argument("--version", action="version", version=f"perfgate {perfgate.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    about = "say which machine this is, its baseline keys, and which markers it satisfies"
    commands.add_parser("hardware", help=about, description=about)
    about = "print a run that pytest --perf-json=FILE has stored"
    show = commands.add_parser("show", help=about, description=about)
    show.add_argument("run", metavar="RUN.json", type=Path, help="the stored run")
    show.add_argument("-v", "--verbose", action="count", default=0, help="every case; -vv with method and conditions")
    about = "list baselines that no test uses any more"
    prune = commands.add_parser(
        "prune",
        help=about,
        description=f"{about}; pytest collects the tests first",
        usage="perfgate prune [-h] [--remove] [--key KEY | --all-keys] [--baselines DIR] [-- PYTEST_ARGUMENT ...]",
    )
    prune.add_argument("--remove", action="store_true", help="remove them")
    which = prune.add_mutually_exclusive_group()
    about = "only baselines of this hardware key; may be repeated (default: this machine's, and those of compiled code)"
    which.add_argument("--key", action="append", help=about)
    about = "baselines of every machine: safe only where the same cases are collected on all of them"
    which.add_argument("--all-keys", action="store_true", help=about)
    about = "folder of the baselines (default: pytest's setting)"
    prune.add_argument("--baselines", metavar="DIR", type=Path, help=about)
    command.add_parser(commands)
    tune.add_parser(commands)
    ab.add_parser(commands)
    baseline.add_parser(commands)
    github.add_parser(commands)
    calibrate.add_parser(commands)
    report.add_parser(commands)
    compare.add_parser(commands)
    history.add_parser(commands)
    return parser


def _hardware(options: argparse.Namespace) -> Iterator[str]:
    from perfgate.hardware import detect
    from perfgate.hardware.report import describe

    yield from describe(detect())


def _show(options: argparse.Namespace) -> Iterator[str]:
    from perfgate.report import run_file, terminal

    for line in terminal.lines(run_file.read(options.run), options.verbose):
        yield line.text


def _prune(options: argparse.Namespace) -> Iterator[str]:
    from perfgate.baseline.layout import display_path
    from perfgate.baseline.prune import Unused, damaged, remove, unused
    from perfgate.baseline.store import BaselineStore
    from perfgate.collected import collect
    from perfgate.units import count

    def line(item: Unused) -> str:
        path = display_path(store.path(item.key, item.module))
        return f"{path}: {f'the test module {item.module}.py is gone' if item.case is None else item.case}"

    collected = collect(options.pytest)
    store = BaselineStore((options.baselines or collected.baselines).resolve())
    stored = sorted({file.key for file in store.files()})
    keys = stored if options.all_keys else options.key or sorted(_own_keys(stored))
    found = unused(store, collected.modules, collected.exists, keys)
    for damage in damaged(store, keys):
        yield f"left alone, damaged: {damage}"
    others = [key for key in stored if key not in keys]
    if others and not options.key:
        yield f"left alone, of other machines: {', '.join(others)} (--key KEY or --all-keys takes them too)"
    if not found:
        yield f"no unused baseline in {display_path(store.root)}"
    elif options.remove:
        removed = remove(store, found)
        yield from (f"removed {line(item)}" for item in removed)
        yield f"removed {count(len(removed), 'unused baseline')}"
    else:
        yield from map(line, found)
        yield f"{count(len(found), 'unused baseline')}; nothing was removed"
        chosen = ["--all-keys"] if options.all_keys else [part for key in options.key or () for part in ("--key", key)]
        yield f"hint: remove them with: {shlex.join(['perfgate', 'prune', *chosen, '--remove'])}"


def _own_keys(stored: Iterable[str]) -> set[str]:
    """Give the keys whose cases this machine collects: its own, and those of compiled code.

    Which cases there are may depend on the machine: a parametrisation may ask for the number of its GPUs.
    """
    from perfgate import hardware
    from perfgate.static.targets import KEY_PREFIX

    return {device.key for device in hardware.detect().devices} | {k for k in stored if k.startswith(KEY_PREFIX)}


#: Commands that take any number of words, and what these are called.
_WORDS = {"calibrate": "selection", "history": "words"}
_COMMANDS = {
    "hardware": _hardware,
    "show": _show,
    "prune": _prune,
    "static": command.run,
    "tune": tune.run,
    "affected": ab.run,
    "diff": baseline.run,
    "github": github.run,
    "calibrate": calibrate.run,
    "report": report.run,
    "compare": compare.run,
    "history": history.run,
}
