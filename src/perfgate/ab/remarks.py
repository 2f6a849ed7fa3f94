"""What should the reader of a comparison know beside its verdicts? One line each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from perfgate.ab import git
from perfgate.ab.git import Base
from perfgate.units import count

#: How many names a line gives.
_SHOWN = 5


def of_sides(base: Base) -> list[str]:
    """Tell of a head that is no commit, or is the base."""
    if base.uncommitted:
        return [f"head: the working tree, {count(base.uncommitted, 'file')} not committed"]
    if base.same:
        return ["base and head are the same code: whatever differs is noise"]
    return []


def of_measuring(base: Base, placed: Iterable[Path]) -> list[str]:
    """Tell of changed files that no verdict is about, because both sides have them as they are now.

    Args:
        base: the commit.
        placed: files and folders that the base's checkout has from this side, from the top folder.
    """
    folders = [path.as_posix() for path in placed]
    changed = [
        path for path in git.changed(base.commit, base.root) if any(map(PurePosixPath(path).is_relative_to, folders))
    ]
    return [f"the head's on both sides, as what measures always is: {_some(changed)}"] if changed else []


def of_removed(base: Base, gone: Sequence[str]) -> list[str]:
    """Tell of tests that only the base has."""
    return [f"on {base.ref} and no longer here: {_some(gone)}"] if gone else []


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
