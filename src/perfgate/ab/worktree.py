"""Where does the base live while it is measured? In a temporary worktree of git that no way of ending leaves behind.

Its folder names the process that made it. What a killed run left is removed by the next one.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from perfgate import interrupts
from perfgate.ab import git, submodules
from perfgate.ab.git import Base
from perfgate.errors import ReplicaError

PREFIX = "perfgate-ab-"
_NAME = re.compile(rf"{PREFIX}(?P<owner>(?P<pid>\d+)-\d*)-\w+")
#: The checkout inside the temporary folder.
CHECKOUT = "base"


@contextlib.contextmanager
def checkout(base: Base) -> Iterator[Path]:
    """Check a commit out into a temporary worktree, and remove it by whatever way the block is left.

    Raises:
        ReplicaError: it cannot be checked out.
    """
    remove_stale(base.root)
    with interrupts.gently():
        folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{_owner(os.getpid())}-")).resolve()
        tree = folder / CHECKOUT
        try:
            try:
                git.call(["worktree", "add", "--detach", "--quiet", str(tree), base.commit], base.root)
            except subprocess.CalledProcessError as error:
                raise ReplicaError(
                    f"{base.name} cannot be checked out into {tree}",
                    error.stderr.strip(),
                    "there must be room for a second copy of the repository's files; TMPDIR names another place",
                ) from None
            submodules.fill(base.commit, base.root, tree)
            yield tree
        finally:
            # A second Ctrl-C must not leave half of it.
            with interrupts.deaf():
                _remove(folder, base.root)


def remove_stale(root: Path) -> list[Path]:
    """Remove the worktrees of runs that were killed; give their folders."""
    removed = []
    # Without -z, which git knows since 2.36 only.
    for line in git.call(["worktree", "list", "--porcelain"], root).splitlines():
        folder = Path(line.removeprefix("worktree ")).parent
        ours = _NAME.fullmatch(folder.name)
        if line.startswith("worktree ") and ours and ours["owner"] != _owner(int(ours["pid"])):
            _remove(folder, root)
            removed.append(folder)
    return removed


def _remove(folder: Path, root: Path) -> None:
    """Remove a worktree with its folder, and git's note of it."""
    tree = folder / CHECKOUT
    with contextlib.suppress(subprocess.CalledProcessError):
        git.call(["worktree", "remove", "--force", "--force", str(tree)], root)
    shutil.rmtree(folder, ignore_errors=True)
    # git removes no worktree whose folder somebody else has removed, and prune would take other people's too.
    common = Path(root, git.call(["rev-parse", "--git-common-dir"], root).strip())
    for note in common.glob("worktrees/*/gitdir"):
        if Path(note.read_text(encoding="utf-8").strip()) == tree / ".git":
            shutil.rmtree(note.parent, ignore_errors=True)


def _owner(pid: int) -> str:
    """Give a name for a process that no later one of the same number has; "PID-" of one that is gone."""
    try:
        # When it started, in ticks since the machine did; its name may hold spaces and brackets.
        started = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except OSError:
        started = "0" if _runs(pid) else ""
    return f"{pid}-{started}"


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
