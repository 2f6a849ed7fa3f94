"""What does GitHub answer? One place that calls its command ``gh``, and git for what ``gh`` does not do."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from perfgate.errors import PerfgateError

_HINTS = {
    "gh": "install it from https://cli.github.com and log in: gh auth login",
    "git": "install git",
}


def call(arguments: Sequence[str], *, program: str = "gh", text: str = "", folder: Path | None = None) -> str:
    """Run ``gh`` or ``git`` and give what it printed.

    Args:
        arguments: the command line without the program.
        program: "gh" or "git".
        text: what it reads from its standard input.
        folder: where it runs; None for here.

    Raises:
        PerfgateError: it is not installed, or it failed.
    """
    try:
        done = subprocess.run(
            [program, *arguments], input=text, capture_output=True, text=True, errors="replace", cwd=folder, check=True
        )
    except FileNotFoundError:
        raise PerfgateError(f"{program} is not installed", "GitHub is reached by it.", _HINTS[program]) from None
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout).strip() or f"exit code {error.returncode}"
        raise PerfgateError(f"{program} {' '.join(arguments[:2])} failed: {said.splitlines()[-1]}") from None
    return done.stdout


def ask(path: str) -> Any:
    """Ask the programming interface for one thing."""
    return json.loads(call(["api", path]))


def ask_each(path: str, fields: str) -> Iterator[Any]:
    """Ask for a list, all pages of it.

    Args:
        path: what to ask for.
        fields: a jq object that each element is turned into.
    """
    for line in call(["api", "--paginate", path, "--jq", f".[] | {fields}"]).splitlines():
        if line:
            yield json.loads(line)


def send(method: str, path: str, fields: dict[str, Any]) -> Any:
    """Create or change one thing."""
    return json.loads(call(["api", "--method", method, path, "--input", "-"], text=json.dumps(fields)))
