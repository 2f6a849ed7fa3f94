"""Which cases does this repository have now? Asks pytest in a child process, which runs none of them."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from perfgate.errors import ReplicaError, SettingError
from perfgate.options import COLLECT_VARIABLE
from perfgate.startup import pytest_command

# Enough of pytest's output to see what went wrong.
_LAST_LINES = 25
_WHY = "Without knowing every test, no baseline can be called unused; nothing was removed."


@dataclass(frozen=True)
class Collected:
    """What pytest collected before it deselected anything.

    Args:
        modules: by test module (its path below the root, without ``.py``) the names of its cases.
        root: pytest's root folder.
        baselines: folder of the baselines by pytest's setting.
    """

    modules: Mapping[str, Sequence[str]]
    root: Path
    baselines: Path

    def exists(self, module: str) -> bool:
        """Tell whether the file of a test module is still there, collected or not."""
        return (self.root / f"{module}.py").is_file()


def collect(arguments: Sequence[str]) -> Collected:
    """Collect the tests of the working directory.

    Args:
        arguments: pytest's own arguments.

    Raises:
        SettingError: the arguments name single cases, so the rest of their module would seem unused.
        ReplicaError: pytest failed, found no case, or ran without the plugin.
    """
    if single := [argument for argument in arguments if "::" in argument]:
        raise SettingError(
            f"perfgate prune cannot use {single[0]}",
            "Cases of a module that were not collected would seem unused.",
            f"name the whole module: perfgate prune -- {single[0].split('::')[0]}",
        )
    with tempfile.TemporaryDirectory(prefix="perfgate-") as folder:
        answer = Path(folder) / "collected.json"
        done = subprocess.run(
            # With an empty cache --last-failed and its like collect everything.
            [*pytest_command(), "--collect-only", "-q", "-o", f"cache_dir={folder}/cache", *arguments],
            env={**os.environ, COLLECT_VARIABLE: str(answer)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        command = " ".join(["pytest --collect-only -q", *arguments])
        if done.returncode not in (0, 5):
            raise ReplicaError(
                f"the tests could not be collected: {command} ended with exit code {done.returncode}",
                "\n".join([_WHY, *done.stdout.strip().splitlines()[-_LAST_LINES:]]),
                f"make this work first: {command}",
            )
        if not answer.exists():
            raise ReplicaError(
                f"the tests could not be collected: {command} ran without perfgate",
                _WHY,
                "remove -p no:perfgate from pytest's settings",
            )
        document = json.loads(answer.read_text(encoding="utf-8"))
    root = Path(document.get("rootdir", "."))
    modules = {name.removesuffix(".py"): cases for name, cases in document["modules"].items()}
    collected = Collected(modules, root, root / document.get("baselines", "baselines"))
    if not modules:
        raise ReplicaError(
            f"{command} found no performance case", _WHY, "call perfgate in the folder where pytest finds your tests"
        )
    if missing := [name for name in modules if not collected.exists(name)]:
        raise ReplicaError(
            f"{command} collected {missing[0]}.py, which is not in {root.resolve()}",
            _WHY,
            "call perfgate in pytest's root folder",
        )
    return collected
