"""Which command line repeats some cases of this run in a fresh process?"""

from __future__ import annotations

import argparse
import itertools
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from perfgate import startup
from perfgate.options import REPLICA_VARIABLE
from perfgate.report.words import from_folder

# Flags of the parent that a child must not repeat: they write files, ask the user, choose tests, or decide about the
# run as a whole. Their other names and values go with them.
_DROPPED = frozenset(
    {
        "--alluredir",
        "--basetemp",
        "--benchmark-autosave",
        "--benchmark-compare",
        "--benchmark-cprofile",
        "--benchmark-cprofile-dump",
        "--benchmark-histogram",
        "--benchmark-json",
        "--benchmark-only",
        "--benchmark-save",
        "--benchmark-save-data",
        "--clean-alluredir",
        "--collect-only",
        "--ctrf",
        "--debug",
        "--durations",
        "--failed-first",
        "--html",
        "--json-report",
        "--json-report-file",
        "--junit-prefix",
        "--junit-xml",
        "--last-failed",
        "--last-failed-no-failures",
        "--log-file",
        "--new-first",
        "--pastebin",
        "--pdb",
        "--no-perf-github",
        "--perf-github",
        "--perf-github-comment",
        "--perf-ab",
        "--perf-history",
        "--perf-html",
        "--perf-json",
        "--perf-profile",
        "--perf-strict",
        "--perf-update",
        "--picked",
        "--report-log",
        "--stepwise",
        "--stepwise-reset",
        "--stepwise-skip",
        "--testmon",
        "--trace",
    }
)


@dataclass(frozen=True)
class Launch:
    """Everything needed to start fresh processes of one run.

    Args:
        arguments: pytest's arguments without test paths.
        root: pytest's root folder; node ids start from it.
        cwd: the folder the user called pytest in.
        flags: of the flags that :meth:`command` gives to children, those that some loaded plugin knows.
        sees_cwd: whether modules in ``cwd`` come before installed ones.
    """

    arguments: tuple[str, ...]
    root: Path
    cwd: Path
    flags: frozenset[str] = frozenset()
    sees_cwd: bool = False

    def command(self, cases: Sequence[str], scratch: Path) -> list[str]:
        """Give the command that runs the modules of these cases and writes nowhere but into a folder of its own."""
        modules = dict.fromkeys(str(self.root / case.split("::", 1)[0]) for case in cases)
        overrides = ["--maxfail=0", f"--rootdir={self.root}"]
        for flag, own in _own_flags(scratch).items():
            if flag in self.flags:
                overrides += own
        return [*startup.pytest_command(self.sees_cwd), *self.arguments, *overrides, *modules]

    def by_hand(self, case: str) -> str:
        """Give the command that a user would type to run one case as a child did."""
        start = ["python", "-m", "pytest"] if self.sees_cwd else ["pytest"]
        return shlex.join([*start, *self.arguments, from_folder(case, self.folder)])

    @property
    def folder(self) -> str:
        """Give the path of the root from the folder the user called pytest in."""
        return os.path.relpath(self.root, self.cwd)

    def variables(self, task: Path) -> dict[str, str]:
        """Give the child's environment."""
        own = ("PYTEST_XDIST", "PYTEST_CURRENT_TEST")
        variables = {name: value for name, value in os.environ.items() if not name.startswith(own)}
        return {**variables, REPLICA_VARIABLE: str(task)}

    def to_json(self) -> dict[str, Any]:
        """Give the values that a worker of pytest-xdist needs to start processes like its controller's."""
        plain = {"arguments": list(self.arguments), "flags": sorted(self.flags)}
        return {**asdict(self), **plain, "root": str(self.root), "cwd": str(self.cwd)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Launch:
        """Turn what :meth:`to_json` gave back into a launch."""
        arguments, flags = tuple(data["arguments"]), frozenset(data["flags"])
        return Launch(arguments, Path(data["root"]), Path(data["cwd"]), flags, data["sees_cwd"])


def _own_flags(scratch: Path) -> dict[str, list[str]]:
    """Give what keeps a child out of its parent's files and plugins, by a flag that tells whether it can be said."""
    return {
        "--cache-clear": ["-o", f"cache_dir={scratch / 'cache'}"],
        "--basetemp": [f"--basetemp={scratch / 'tmp'}"],
        "--log-file": ["--log-file=", "-o", "log_file="],
        "--no-cov": ["--no-cov"],
        "--numprocesses": ["--numprocesses=0"],
    }


def strip(arguments: Sequence[str], actions: Mapping[str, argparse.Action]) -> list[str]:
    """Take test paths and unwanted flags out of a command line.

    Args:
        arguments: the parent's arguments.
        actions: what pytest's parser knows, by the names of the flags.
    """
    dropped = {id(actions[name]) for name in _DROPPED if name in actions}
    kept: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            break
        if not argument.startswith("-") or argument == "-":
            continue
        action, attached = _find(argument, actions)
        values = [] if action is None or attached else _values(action, rest)
        del rest[: len(values)]
        if action is None or id(action) not in dropped:
            kept += [argument, *values]
    return kept


def _find(argument: str, actions: Mapping[str, argparse.Action]) -> tuple[argparse.Action | None, bool]:
    """Find the flag that an argument gives, and whether its value is in the same argument."""
    if argument in actions:
        return actions[argument], False
    name, equals, _ = argument.partition("=")
    if equals and name in actions:
        return actions[name], True
    if argument.startswith("--"):
        return None, False
    # Short flags in one: -vx, -kname, -xk name.
    for index, letter in enumerate(argument[1:], start=1):
        action = actions.get(f"-{letter}")
        if action is None or action.nargs != 0:
            return action, index + 1 < len(argument)
    return action, False


def _values(action: argparse.Action, rest: Sequence[str]) -> list[str]:
    """Give the arguments after a flag that are its values."""
    if action.nargs is None or isinstance(action.nargs, int):
        return list(rest[: 1 if action.nargs is None else action.nargs])
    free = list(itertools.takewhile(lambda argument: not argument.startswith("-"), rest))
    return free[:1] if action.nargs == "?" else free


def from_config(config: pytest.Config) -> Launch:
    """Learn from a configured pytest how to start a fresh process like it."""
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        return Launch.from_json(worker["perfgate_launch"])
    parser = config._parser.optparser
    actions = parser._option_string_actions
    # A file of arguments (@FILE) may be another one, or elsewhere, by the time a child would read it.
    arguments = parser._read_args_from_files([str(argument) for argument in config.invocation_params.args])
    return Launch(
        arguments=tuple(strip(arguments, actions)),
        root=config.rootpath,
        cwd=config.invocation_params.dir,
        flags=frozenset(actions.keys() & _own_flags(config.rootpath).keys()),
        sees_cwd=startup.SEES_CWD,
    )
