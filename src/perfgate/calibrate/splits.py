"""Which processes of a pool are compared with which? As runs would have happened, shuffled, or from GPU to GPU."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from perfgate.calibrate.pool import Process
from perfgate.options import RECORDED_PROCESSES

#: Comparisons that are drawn of each kind at most.
MOST = 200
_SEED = 20240229

T = TypeVar("T")


@dataclass(frozen=True)
class Split:
    """One comparison: the processes that recorded the baseline, and the others in the order in which a run has them."""

    baseline: tuple[int, ...]
    others: tuple[int, ...]


def in_time(processes: Sequence[Process], most: int = MOST) -> list[Split]:
    """Split as it would have happened: five successive processes record, and a run begins at any process after them.

    The run goes on with the processes that followed. Where it needs more than there are, it takes those between
    baseline and run next, and those before the baseline last.
    """
    order = _by_time(processes)
    size = RECORDED_PROCESSES
    found = []
    for first in range(len(order) - size):
        baseline, later = order[first : first + size], order[first + size :]
        for start in range(len(later)):
            found.append(Split(tuple(baseline), (*later[start:], *later[:start], *order[:first])))
    return thin(found, most)


def shuffled(processes: Sequence[Process], most: int = MOST) -> list[Split]:
    """Split at random, which is blind to drift: what differs from :func:`in_time` is the machine changing slowly."""
    size = RECORDED_PROCESSES
    if len(processes) <= size:
        return []
    generator = random.Random(_SEED)
    found = []
    for _ in range(most):
        order = list(range(len(processes)))
        generator.shuffle(order)
        found.append(Split(tuple(order[:size]), tuple(order[size:])))
    return found


def across(processes: Sequence[Process], most: int = MOST) -> list[Split]:
    """Record on one GPU and run on another of the same kind, as a fleet does; nothing without several GPUs."""
    by_device: dict[str, list[int]] = {}
    for number in _by_time(processes):
        by_device.setdefault(processes[number].device, []).append(number)
    size = RECORDED_PROCESSES
    found = []
    for here, recorded in by_device.items():
        for there, current in by_device.items():
            if here != there and len(recorded) >= size:
                for start in range(len(current)):
                    found.append(Split(tuple(recorded[:size]), (*current[start:], *current[:start])))
    return thin(found, most)


def distinct(processes: Sequence[Process]) -> int:
    """Give how many processes can start a run beside one baseline."""
    return max(len(processes) - RECORDED_PROCESSES, 0)


def _by_time(processes: Sequence[Process]) -> list[int]:
    return sorted(range(len(processes)), key=lambda number: (processes[number].began, number))


def thin(found: Sequence[T], most: int) -> list[T]:
    """Give so many of some things, evenly over all of them."""
    if len(found) <= most:
        return list(found)
    return [found[number * len(found) // most] for number in range(most)]
