"""Which command line repeats some cases of this run in a fresh process?"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from perfgate.options import REPLICA_VARIABLE

# Flags of the parent that a child must not repeat, and whether they take a value: they write files, ask the
# user, or decide about the run as a whole.
_DROPPED = {
    "--junitxml": True,
    "--junit-xml": True,
    "--junit-prefix": True,
    "--perf-json": True,
    "--perf-update": True,
    "--perf-strict": False,
    "--benchmark-json": True,
    "--benchmark-save": True,
    "--benchmark-autosave": False,
    "--benchmark-save-data": False,
    "--benchmark-histogram": False,
    "--benchmark-cprofile": True,
    "--benchmark-cprofile-dump": False,
    "--benchmark-compare": False,
    "--benchmark-only": False,
    "--log-file": True,
    "--report-log": True,
    "--html": True,
    "--resultlog": True,
    "--pastebin": True,
    "--durations": True,
    "--pdb": False,
    "--trace": False,
    "--collect-only": False,
    "--co": False,
}


@dataclass(frozen=True)
class Launch:
    """Everything needed to start fresh processes of one run.

    Args:
        arguments: pytest's arguments without test paths.
        root: pytest's root folder; node ids start from it.
        cwd: the folder the user called pytest in.
        xdist: whether the xdist plugin is there and has to be told to stay out.
    """

    arguments: tuple[str, ...]
    root: Path
    cwd: Path
    xdist: bool

    def command(self, cases: Sequence[str], scratch: Path) -> list[str]:
        """Give the command that runs the modules of these cases."""
        modules = dict.fromkeys(str(self.root / case.split("::", 1)[0]) for case in cases)
        overrides = ["--maxfail=0", "-o", f"cache_dir={scratch / 'cache'}", f"--rootdir={self.root}"]
        if self.xdist:
            overrides += ["-n", "0"]
        return [sys.executable, "-m", "pytest", *self.arguments, *overrides, *modules]

    def variables(self, task: Path) -> dict[str, str]:
        """Give the child's environment."""
        own = ("PYTEST_XDIST", "PYTEST_CURRENT_TEST")
        variables = {name: value for name, value in os.environ.items() if not name.startswith(own)}
        return {**variables, REPLICA_VARIABLE: str(task)}

    def to_json(self) -> dict[str, Any]:
        """Give the values that a worker of pytest-xdist needs to start processes like its controller's."""
        return {**asdict(self), "root": str(self.root), "cwd": str(self.cwd), "arguments": list(self.arguments)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Launch:
        """Turn what :meth:`to_json` gave back into a launch."""
        return Launch(tuple(data["arguments"]), Path(data["root"]), Path(data["cwd"]), data["xdist"])


def strip(arguments: Sequence[str], paths: Sequence[str], run_id: str | None) -> list[str]:
    """Take test paths and unwanted flags out of a command line.

    Args:
        arguments: the parent's arguments.
        paths: the test paths among them.
        run_id: the stored run that ``--benchmark-compare`` names, if any.
    """
    # A path may also be the value of a flag before it: -k kernels kernels. The last one is the path.
    wanted, rest = Counter(paths), []
    for argument in reversed(arguments):
        if wanted[argument] > 0:
            wanted[argument] -= 1
        else:
            rest.append(argument)
    kept: list[str] = []
    remaining = iter(reversed(rest))
    for argument in remaining:
        name, equals, _ = argument.partition("=")
        if name in _DROPPED:
            if _DROPPED[name] and not equals:
                next(remaining, None)
            continue
        if argument == "--" or argument == run_id:
            continue
        kept.append(argument)
    return kept


def from_config(config: pytest.Config) -> Launch:
    """Learn from a configured pytest how to start a fresh process like it."""
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        return Launch.from_json(worker["perfgate_launch"])
    arguments = config.invocation_params.args
    run_id = config.getoption("benchmark_compare")
    return Launch(
        arguments=tuple(
            strip([str(a) for a in arguments], config.option.file_or_dir, run_id if isinstance(run_id, str) else None)
        ),
        root=config.rootpath,
        cwd=config.invocation_params.dir,
        xdist=config.pluginmanager.hasplugin("xdist"),
    )
