"""With which software, and at which commit, is a result measured? Asked once, before the first is stored.

Imports nothing heavy.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from perfgate.ab import git
from perfgate.errors import SettingError

CHANGED = "+changes"


@dataclass(frozen=True)
class Origin:
    """What results come from; nothing of either where nobody knows.

    Attributes:
        environment: driver, toolkit, torch, triton and python, as baselines have them.
        commit: of the code, with "+changes" where it has some, or files that are new to git.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    commit: str = ""


#: Of results that nobody asked about.
UNKNOWN = Origin()


def here(results: Path) -> Origin:
    """Find out what would be measured now.

    Args:
        results: a file that grows as results come; it is no change of the code.
    """
    from perfgate.hardware import detect

    hardware = detect()
    kind = (hardware.accelerator or hardware.cpu).kind
    return Origin(dict(hardware.environments.get(kind, {})), commit_of(Path(__file__), results))


def commit_of(code: Path, results: Path) -> str:
    """Give the commit that a file of the code is checked out from; "" if it is not.

    Args:
        code: any file of the code.
        results: a file whose changes do not count.
    """
    try:
        root = git.top(code.parent, "serve")
        git.call(["ls-files", "--error-unmatch", str(code)], root)
        commit = git.call(["rev-parse", "--short=12", "HEAD"], root).strip()
        changed = git.changed("HEAD", root)
    except (SettingError, subprocess.CalledProcessError):
        return ""
    return commit + (CHANGED if any(root / path != results.resolve() for path in changed) else "")
