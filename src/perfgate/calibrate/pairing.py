"""Which processes of a pool are base and head of one run? Neighbours in time, the side that goes first changing.

A run of ``--perf-ab`` measures base, head, head, base, base, head, and so on, one process after the other on one
machine. It is played on processes that followed each other just so: each pair is two neighbours in time on one device,
pairs share no process, and a side that has extra work is taken from processes that had it. Where the next two processes
do not fit the order, one is passed over. A run goes on at the beginning of the pool when it comes to its end, and on
another device where one has too few: what differs between devices then scatters on both sides alike.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from perfgate.calibrate.pool import Process


@dataclass(frozen=True)
class Pairs:
    """The processes of both sides of one run, pair by pair; no process is in it twice."""

    base: tuple[int, ...]
    head: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.base)


def in_turn(
    processes: Sequence[Process], able: Collection[int], stepped: Collection[int], most: int
) -> dict[int, Pairs]:
    """Give the run that begins with each process, which is the base of its first pair.

    Args:
        processes: of the pool.
        able: those that measured the case.
        stepped: those of them that can be the head.
        most: pairs that a run may take.

    Returns:
        By the process that the run begins with, all the pairs that follow. Runs with fewer than ``most`` are left out,
        or, where no run of the pool has as many, those with fewer than another.
    """
    lanes: dict[str, list[int]] = {}
    for number in sorted(able, key=lambda number: (processes[number].began, number)):
        lanes.setdefault(processes[number].device, []).append(number)
    orders = list(lanes.values())
    found = {}
    for place, order in enumerate(orders):
        others = [*orders[place + 1 :], *orders[:place]]
        for start, (first, second) in enumerate(itertools.pairwise(order)):
            if second in stepped:
                found[first] = _pairs([order[start:], order[:start], *others], stepped)
    least = min(most, max(map(len, found.values()), default=0))
    return {first: pairs for first, pairs in found.items() if len(pairs) >= least}


def _pairs(stretches: Iterable[Sequence[int]], stepped: Collection[int]) -> Pairs:
    """Take neighbours of each stretch of time, in the order that the number of the pair wants."""
    base: list[int] = []
    head: list[int] = []
    for stretch in stretches:
        place = 0
        while place + 1 < len(stretch):
            pair = stretch[place : place + 2]
            one, other = reversed(pair) if len(base) % 2 else pair
            if other in stepped:
                base.append(one)
                head.append(other)
            place += 2 if other in stepped else 1
    return Pairs(tuple(base), tuple(head))
