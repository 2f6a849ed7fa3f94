"""Which cases are calibrated? Asks a pytest that collects and runs nothing."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from perfgate.calibrate.collecting import LOADED, VARIABLE
from perfgate.errors import ReplicaError
from perfgate.replicate.command import Launch
from perfgate.startup import pytest_command

# Enough of pytest's output to see what went wrong.
_LAST_LINES = 25


@dataclass(frozen=True)
class Selected:
    """The cases of a calibration.

    Attributes:
        launch: how to start a process that runs them.
        cases: node ids.
        isolated: those of them that always get a process of their own.
        skipped: how many more this machine cannot run.
        baselines: folder of the baselines by pytest's setting.
    """

    launch: Launch
    cases: tuple[str, ...]
    isolated: frozenset[str]
    skipped: int
    baselines: Path


def select(arguments: Sequence[str]) -> Selected:
    """Collect the selection.

    Args:
        arguments: pytest's own arguments: paths, node ids, ``-m``, ``-k``.

    Raises:
        ReplicaError: pytest failed, or found no case that can be run here.
    """
    command = " ".join(["pytest --collect-only -q", *arguments])
    with tempfile.TemporaryDirectory(prefix="perfgate-") as folder:
        answer = Path(folder) / "selected.json"
        done = subprocess.run(
            [*pytest_command(), LOADED, "--collect-only", "-q", *arguments],
            env={**os.environ, VARIABLE: str(answer)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode not in (0, 5) or not answer.exists():
            raise ReplicaError(
                f"the cases could not be collected: {command} ended with exit code {done.returncode}",
                "\n".join(done.stdout.strip().splitlines()[-_LAST_LINES:]),
                f"make this work first: {command}",
            )
        document = json.loads(answer.read_text(encoding="utf-8"))
    if not document["cases"]:
        skipped = document["skipped"]
        raise ReplicaError(
            f"{command} found no case to calibrate" + (f"; this machine cannot run {skipped}" if skipped else ""),
            "Calibrated are tests that use the benchmark fixture.",
            "name others, e.g.: perfgate calibrate perf_tests --runs 30",
        )
    return Selected(
        Launch.from_json(document["launch"]),
        tuple(document["cases"]),
        frozenset(document["isolated"]),
        int(document["skipped"]),
        Path(document["baselines"]),
    )
