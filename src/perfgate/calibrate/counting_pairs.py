"""How often is ``--perf-ab`` wrong, and how small a slow-down does it find? Counts over a pool's processes in turn.

Few comparisons of a pool are independent: on a CPU one takes 4 to 12 pairs, and 24 processes are 12 pairs. A count is
worth as many comparisons as have room in the pool one beside the other: the pairs that it holds over the pairs that one
took on average.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from perfgate.ab import judge
from perfgate.calibrate import splits
from perfgate.calibrate.deciding import Played
from perfgate.calibrate.deciding_pairs import PairPlayer
from perfgate.calibrate.figures import InPairs, PairFigures, PairPower
from perfgate.calibrate.intervals import Rate, rate, together
from perfgate.calibrate.pairing import Pairs, in_turn
from perfgate.calibrate.pool import Pool, PooledCase
from perfgate.calibrate.steps import NONE, half_of
from perfgate.model import FAILING, Limit, Verdict

_UNDECIDED = frozenset({Verdict.INCONCLUSIVE, Verdict.THROTTLED})


@dataclass(frozen=True)
class _Counted:
    """Comparisons of one case.

    Attributes:
        played: by the process that the run begins with.
        room: pairs that the pool holds for one run.
        crossed: whether any took pairs on more than one device.
    """

    played: Mapping[int, Played]
    room: int
    crossed: bool

    @property
    def taken(self) -> float:
        """Give the pairs that a comparison took, the mean."""
        return statistics.fmean(each.processes for each in self.played.values()) if self.played else math.nan

    @property
    def achieved(self) -> float:
        """Give the change that the gate reports, the median; not a number where it reports none."""
        changes = [each.change for each in self.played.values() if each.change is not None]
        return statistics.median(changes) if changes else math.nan

    def ending(self, verdicts: Collection[Verdict]) -> Rate:
        """Give how many end with one of some verdicts."""
        events = sum(each.verdict in verdicts for each in self.played.values())
        return rate(events, len(self.played), self.room / self.taken if self.played else 0.0)


@dataclass(frozen=True)
class _Draw:
    """What is played on: the pool, the comparisons that are drawn at most, and the pairs that one takes at most."""

    pool: Pool
    most: int
    total: int

    def play(self, player: PairPlayer, step: str = NONE) -> _Counted:
        """Play every run of a case."""
        runs = in_turn(self.pool.processes, *player.sides(step), self.total)
        drawn = splits.thin(list(runs.items()), self.most)
        played = {first: player.play(pairs, step, self.total) for first, pairs in drawn}
        crossed = any(self._devices(pairs, played[first].processes) > 1 for first, pairs in drawn)
        return _Counted(played, max(map(len, runs.values()), default=0), crossed)

    def _devices(self, pairs: Pairs, taken: int) -> int:
        """Count the devices that the first pairs of a run are of; those of one pair are of one."""
        return len({self.pool.processes[number].device for number in pairs.base[:taken]})


def count(pool: Pool, limit: Limit | None, most: int, total: int) -> InPairs | None:
    """Play base and head in turn with every case of a pool, unchanged and with each step in the head.

    Args:
        pool: what was measured.
        limit: replaces the limits of all times; None keeps those of a run in pairs.
        most: runs that are drawn.
        total: pairs that a run may take, as ``--perf-processes`` has them.

    Returns:
        What was found; None where no two processes are neighbours on one device.
    """
    draw = _Draw(pool, most, total)
    level = judge.alarm(len(pool.cases))
    verdicts: Counter[str] = Counter()
    longest: dict[int, int] = {}
    failing: set[int] = set()
    cases, room, crossed = [], 0, False
    for name, case in sorted(pool.cases.items()):
        plain = draw.play(PairPlayer(case, level, limit))
        verdicts.update(each.verdict.value for each in plain.played.values())
        for first, played in plain.played.items():
            longest[first] = max(longest.get(first, 1), played.processes)
        failing.update(first for first, played in plain.played.items() if played.verdict in FAILING)
        room, crossed = max(room, plain.room), crossed or plain.crossed
        power = _powers(draw, case, level, limit)
        cases.append(PairFigures(name, plain.ending(FAILING), plain.ending(_UNDECIDED), plain.taken, power))
    if not longest:
        return None
    taken = statistics.fmean(longest.values())
    return InPairs(
        cases=tuple(cases),
        alarms=together([case.alarms for case in cases]),
        runs=rate(len(failing), len(longest), room / taken),
        verdicts=dict(verdicts),
        pairs=min(room, total),
        taken=taken,
        crossed=crossed,
    )


def _powers(draw: _Draw, case: PooledCase, level: float, limit: Limit | None) -> dict[str, PairPower]:
    found = {}
    player = PairPlayer(case, level, limit)
    for step in case.steps:
        own = draw.play(player, step)
        half = alarms = None
        if (strict := half_of(step)) is not None:
            stricter = PairPlayer(case, level, strict)
            half, alarms = draw.play(stricter, step).ending(FAILING), draw.play(stricter).ending(FAILING)
        pairs = min(own.room, draw.total)
        found[step] = PairPower(own.ending(FAILING), half, alarms, pairs, own.achieved, own.crossed)
    return found
