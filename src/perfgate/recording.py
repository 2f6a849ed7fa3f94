"""In which portions is a recording made, and in how many processes? An interrupt costs the portion at hand alone.

A portion is measured in all its processes before the next one begins, so the processes of a case follow each other
within some five minutes, however long the whole recording takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from perfgate.model import Limit, Measurement, Noise

#: Seconds that a group of cases takes a process. Starting a process takes a few.
GROUP_S = 60.0
#: Fresh processes that suffice for figures of which none may change, where they agree to the last digit.
EXACT_PROCESSES = 2


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


def settled(measurements: Sequence[Measurement]) -> bool:
    """Tell whether no further process is needed: what a case counts may not change at all, and has not.

    Five processes are there to tell how much a figure scatters. Launches and operators do not; one that differs
    between the first two processes gets all five.
    """
    if len(measurements) < EXACT_PROCESSES:
        return False
    first = measurements[0].metrics
    unchangeable = all(metric.limit == Limit() and metric.noise == Noise() for metric in first)
    alike = [[(metric.name, metric.value) for metric in each.metrics] for each in measurements]
    return bool(first) and unchangeable and all(each == alike[0] for each in alike)
