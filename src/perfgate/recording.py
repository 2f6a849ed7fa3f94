"""In which portions is a recording made? An interrupt costs the portion at hand; what was recorded before is kept.

A portion is measured in all its processes before the next one begins, so the processes of a case follow each other
within some five minutes, however long the whole recording takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: Seconds that a group of cases takes a process. Starting a process takes a few.
GROUP_S = 60.0


def groups(cases: Sequence[str], took_s: Mapping[str, float]) -> list[list[str]]:
    """Split cases, in their order, into groups that each take at most :data:`GROUP_S`, or are one case.

    Args:
        cases: to be recorded.
        took_s: seconds that each took when it first ran.
    """
    found: list[list[str]] = []
    so_far_s = 0.0
    for case in cases:
        if not found or so_far_s + took_s[case] > GROUP_S:
            found.append([])
            so_far_s = 0.0
        found[-1].append(case)
        so_far_s += took_s[case]
    return found
