"""Which devices does a ``..._VISIBLE_DEVICES`` variable leave to this process, and in what order?"""

from __future__ import annotations

import re
from collections.abc import Sequence

_NUMBER = re.compile(r"\s*([+-]?[0-9]+)")


def visible(listed: str | None, uuids: Sequence[str], count: int | None = None) -> list[int]:
    """Read the variable as CUDA and HIP do.

    The list ends at the first entry that names no device; a device named twice leaves none at all; an identifier
    may be shortened as long as it stays unique.

    Args:
        listed: value of the variable; None when it is not set.
        uuids: identifiers of all devices ("GPU-...", "MIG-..."), in the order of their indices.
        count: how many of them, from the first on, can be named by an index; default: all.

    Returns:
        Positions in ``uuids``.
    """
    count = len(uuids) if count is None else count
    if listed is None:
        return list(range(count))
    by_name = listed.strip().upper().startswith(("GPU-", "MIG-"))
    chosen: list[int] = []
    for entry in listed.split(","):
        position = _named(entry.strip(), uuids) if by_name else _numbered(entry, count)
        if position is None:
            break
        if position in chosen:
            return []
        chosen.append(position)
    return chosen


def _numbered(entry: str, count: int) -> int | None:
    """Read the number that an entry begins with, as strtoul does: "1gpu" is 1."""
    number = _NUMBER.match(entry)
    if number is None or not 0 <= int(number[1]) < count:
        return None
    return int(number[1])


def _named(entry: str, uuids: Sequence[str]) -> int | None:
    """Find the one device whose identifier begins with the entry."""
    prefix = entry.lower()
    if not prefix.startswith(("gpu-", "mig-")):
        return None
    matches = [position for position, uuid in enumerate(uuids) if uuid.lower().startswith(prefix)]
    return matches[0] if len(matches) == 1 else None
