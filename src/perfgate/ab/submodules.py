"""Where do the submodules of a temporary checkout come from? From those of the working tree, without a network.

git leaves their folders empty in a new worktree. Each becomes a clone that shares the objects of the one that is here,
at the commit that the base names.
"""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from perfgate.ab import git
from perfgate.errors import ReplicaError

_MODE = "160000"


def fill(commit: str, root: Path, tree: Path) -> None:
    """Check out the submodules of a commit, and theirs; one that is not there in the working tree stays empty.

    Args:
        commit: of the repository at ``root``.
        root: top folder of a working tree.
        tree: a checkout of that commit.

    Raises:
        ReplicaError: the commit that one has to be at is not here.
    """
    for line in git.paths(["ls-tree", "-r", "-z", commit], root):
        what, _, path = line.partition("\t")
        mode, _, wanted = what.split()[:3]
        if mode != _MODE or not (root / path / ".git").exists():
            continue
        try:
            git.call(["clone", "--quiet", "--shared", "--no-checkout", str(root / path), str(tree / path)], root)
            git.call(["checkout", "--quiet", "--detach", wanted], tree / path)
        except subprocess.CalledProcessError as error:
            raise ReplicaError(
                f"the submodule {path} cannot be checked out at {wanted[:12]}",
                error.stderr.strip(),
                f"git -C {shlex.quote(path)} fetch origin {wanted}",
            ) from None
        fill(wanted, root / path, tree / path)
