"""What does git say of this repository? One place that calls it, and turns what goes wrong into what to do."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from perfgate.errors import SettingError
from perfgate.units import count

#: A git hook sets these for its own repository; they would lead every call astray.
_LOCATIONS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR")
#: Paths as they are, without quotes; in a temporary checkout hooks of the repository have no business, and submodules
#: are not where git would look for them.
_SETTINGS = tuple(
    part
    for setting in ("core.quotePath=false", f"core.hooksPath={os.devnull}", "submodule.recurse=false")
    for part in ("-c", setting)
)
_MERGE_BASE = "..."
_OWNED = re.compile(r"dubious ownership in repository(?: at '(?P<place>.+)')?")


@dataclass(frozen=True)
class Base:
    """The commit that the working tree is compared with.

    Args:
        ref: as the user named it.
        commit: its full id.
        short: its id, shortened.
        root: top folder of the working tree.
        same: whether it is the commit that is checked out.
        uncommitted: files of the working tree that are changed, deleted or new since the commit that is checked out.
    """

    ref: str
    commit: str
    short: str
    root: Path
    same: bool = False
    uncommitted: int = 0

    @property
    def name(self) -> str:
        """Give what tables call it."""
        return self.short if self.commit.startswith(self.ref) else f"{self.ref} ({self.short})"

    def told(self) -> str:
        """Say what is compared with what, in one line."""
        files = f", {count(self.uncommitted, 'file')} not committed" if self.uncommitted else ""
        return f"base: {self.name}; head: working tree{files}"


def call(arguments: Sequence[str], folder: Path) -> str:
    """Run git and give what it printed.

    Raises:
        SettingError: git is not installed.
        subprocess.CalledProcessError: git failed.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _LOCATIONS}
    try:
        done = subprocess.run(
            ["git", *_SETTINGS, *arguments],
            cwd=folder,
            env={**environment, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=True,
        )
    except FileNotFoundError:
        raise SettingError(
            "git is not installed", "The commit to compare with is checked out by it.", "install git"
        ) from None
    return done.stdout


def paths(arguments: Sequence[str], folder: Path) -> list[str]:
    """Run git with ``-z`` among its arguments, and give the paths that it printed."""
    return [path for path in call(arguments, folder).split("\0") if path]


def top(folder: Path, flag: str) -> Path:
    """Give the top folder of the working tree.

    Args:
        folder: any folder in it.
        flag: what the user typed, for messages.

    Raises:
        SettingError: there is no working tree, or git refuses to look at it.
    """
    try:
        return Path(call(["rev-parse", "--show-toplevel"], folder).rstrip("\n"))
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip()
        if owned := _OWNED.search(said):
            # The top folder, which has to be named exactly.
            place = owned["place"] or str(folder)
            raise SettingError(
                f"{flag}: git refuses to read {place}: another user owns it",
                "Containers in CI often check out as one user and test as another.",
                f"git config --global --add safe.directory {shlex.quote(place)}",
            ) from None
        what = "is not in a git repository" if "not a git repository" in said else "has no working tree of git"
        raise SettingError(
            f"{flag}: {folder} {what}",
            "The commit to compare with is checked out from there.",
            "call it inside a clone of the repository",
        ) from None


def resolve(ref: str, folder: Path, flag: str) -> Base:
    """Find the commit that a ref names; ``REF...`` names the last commit that REF and the checked-out commit share.

    Raises:
        SettingError: there is no such commit, or no repository.
    """
    root = top(folder, flag)
    if not ref or ref.startswith("-"):
        raise SettingError(f"{flag}: {ref!r} is not the name of a commit", hint="name one, e.g. origin/main")
    commit = commit_of(ref.removesuffix(_MERGE_BASE), root, flag)
    head = commit_of("HEAD", root, flag)
    if ref.endswith(_MERGE_BASE):
        commit = merge_base(commit, head, root, flag)
    short = call(["rev-parse", "--short", commit], root).strip()
    return Base(ref, commit, short, root, commit == head, len(changed("HEAD", root)))


def commit_of(ref: str, root: Path, flag: str) -> str:
    """Give the id of the commit that a name leads to.

    Raises:
        SettingError: there is none here.
    """
    try:
        return call(["rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}"], root).strip()
    except subprocess.CalledProcessError:
        pass
    if _exists(f"refs/remotes/origin/{ref}^{{commit}}", root):
        typed = flag if flag.startswith("-") else f"perfgate {flag}"
        hint = typed.replace(ref, f"origin/{ref}")
        raise SettingError(f"{flag}: there is no branch {ref} here, only that of the remote", hint=hint)
    if _exists(ref, root):
        raise SettingError(f"{flag}: {ref} is no commit", hint="name a branch, a tag or a commit, e.g. origin/main")
    if is_shallow(root):
        raise _shallow(f"{flag}: there is no commit {ref} in this shallow clone")
    branch = ref.removeprefix("origin/")
    raise SettingError(
        f"{flag}: there is no commit {ref} in {root}",
        "A branch of the remote is known here once it was fetched.",
        f"git fetch origin {branch}",
    )


def merge_base(one: str, other: str, root: Path, flag: str) -> str:
    """Give the last commit that two commits share.

    Raises:
        SettingError: they share none, or the clone does not reach back to it.
    """
    try:
        return call(["merge-base", one, other], root).split()[0]
    except subprocess.CalledProcessError:
        pass
    if is_shallow(root):
        raise _shallow(f"{flag}: the commit where the two parted is not in this shallow clone")
    raise SettingError(
        f"{flag}: it shares no commit with the one that is checked out",
        "What changed since is unknown.",
        "name a branch of the same history",
    )


def changed(since: str, root: Path) -> list[str]:
    """Give the files of the working tree that differ from a commit, also deleted ones and those new to git."""
    known = paths(["diff", "--name-only", "--no-renames", "-z", since], root)
    # Not every repository has git ignore what Python writes beside its sources.
    written = ["--exclude=__pycache__/", "--exclude=*.py[co]"]
    return sorted({*known, *paths(["ls-files", "--others", "--exclude-standard", *written, "-z"], root)})


def is_shallow(root: Path) -> bool:
    """Whether the clone lacks older commits."""
    return call(["rev-parse", "--is-shallow-repository"], root).strip() == "true"


def show(commit: str, path: str, root: Path) -> str | None:
    """Give the text of a file in a commit; None when it has none of this name."""
    try:
        return call(["show", f"{commit}:{path}"], root)
    except subprocess.CalledProcessError:
        return None


def _exists(ref: str, root: Path) -> bool:
    try:
        call(["rev-parse", "--verify", "--quiet", "--end-of-options", ref], root)
    except subprocess.CalledProcessError:
        return False
    return True


def _shallow(what: str) -> SettingError:
    return SettingError(
        what,
        "It was cloned without its older commits, as CI does to save time.",
        "git fetch --unshallow origin, or fetch-depth: 0 for actions/checkout",
    )
