"""What would the gate have said of stored baselines? Its rules, screen and confirmation, on processes of a pool."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from perfgate.calibrate.material import Material
from perfgate.calibrate.pool import PooledCase, Series
from perfgate.calibrate.splits import Split
from perfgate.calibrate.steps import NONE
from perfgate.model import Limit, Verdict
from perfgate.verdict.case import judge, totals
from perfgate.verdict.speeds import CLOCK, SAME_CLOCK


@dataclass(frozen=True)
class Played:
    """One comparison as the gate would have made it.

    Attributes:
        verdict: on the case.
        processes: of now, the screening one included, that it took.
        change: that the gate reports of the metric with the step, as a share; None where nobody asks for it.
    """

    verdict: Verdict
    processes: int
    change: float | None = None


class Player:
    """Plays comparisons of one case.

    Args:
        case: what the pool has of it.
        limit: replaces the limit of each time; None keeps those of the case.
    """

    def __init__(self, case: PooledCase, limit: Limit | None = None) -> None:
        self._material = Material(case, limit)

    def can(self, split: Split, step: str) -> bool:
        """Tell whether the pool has what a comparison needs: a whole baseline, and a process with the step."""
        return self._material.processes.issuperset(split.baseline) and bool(self._current(split, step, 1))

    def play(self, split: Split, step: str = NONE, most: int = 12) -> Played:
        """Compare.

        Args:
            split: which processes.
            step: the extra work of the current side.
            most: current processes, as ``--perf-processes`` has them; fewer where the pool has fewer.
        """
        current = self._current(split, step, most)
        baseline = self._material.baseline(split.baseline)
        measurements = [self._material.measurement(process, step) for process in current]
        last = len(measurements) == 1
        result = judge(baseline, measurements[:1], last=last)
        if last or result.verdict is not Verdict.INCONCLUSIVE:
            return Played(result.verdict, 1)
        suspects = frozenset(each.name for each in result.metrics if each.verdict is Verdict.INCONCLUSIVE)
        for total in totals(len(measurements)):
            end = total == len(measurements)
            result = judge(baseline, measurements[:total], last=end, only=suspects)
            if result.verdict is not Verdict.INCONCLUSIVE:
                break
        return Played(result.verdict, total)

    def _current(self, split: Split, step: str, most: int) -> list[int]:
        able = self._material.having(step)
        return [process for process in split.others if process in able][:most]

    def play_all(self, drawn: Sequence[Split], step: str = NONE, most: int = 12) -> list[Played | None]:
        """Compare many times; None for a comparison that the pool has not the processes for.

        Where only one metric differs between processes at all, and the machine's clock does not, the rule is asked
        about all comparisons at once, which is a hundred times as fast as one by one.
        """
        played: list[Played | None] = [None] * len(drawn)
        possible = [place for place, split in enumerate(drawn) if self.can(split, step)]
        series = self._lone(step)
        groups: dict[int, list[int]] = {}
        for place in possible:
            if series is None:
                played[place] = self.play(drawn[place], step, most)
            else:
                groups.setdefault(len(self._current(drawn[place], step, most)), []).append(place)
        for places in groups.values():
            assert series is not None
            row = self._material.row
            baseline = [[row(series, process).value for process in drawn[place].baseline] for place in places]
            current = [
                [row(series, process, step).value for process in self._current(drawn[place], step, most)]
                for place in places
            ]
            for place, found in zip(places, _at_once(series, baseline, current), strict=True):
                played[place] = found
        return played

    def _lone(self, step: str) -> Series | None:
        """Give the only metric whose figures differ, if it is positive, less of it is better and the clock steady."""
        varying = []
        for series in self._material.series:
            rows = self._material.rows(series, step)
            if len({row.value for row in rows}) > 1:
                varying.append((series, rows))
        if len(varying) != 1:
            return None
        series, rows = varying[0]
        clocks = [row.speeds.get(CLOCK, math.nan) for row in rows]
        others = {name for row in rows for name in row.speeds} - {CLOCK}
        known = [clock for clock in clocks if clock > 0]
        steady = not known or max(known) < min(known) * (1 + SAME_CLOCK)
        plain = series.better == "lower" and min(row.value for row in rows) > 0
        return series if steady and plain and not others else None

    def detectable(self, split: Split, most: int = 12) -> Mapping[str, float | None]:
        """Give, by metric, the smallest slow-down that a whole confirmation of unchanged code could have shown."""
        current = self._current(split, NONE, most)
        measurements = [self._material.measurement(process) for process in current]
        result = judge(self._material.baseline(split.baseline), measurements, last=True)
        return {each.name: each.detectable if each.relative else None for each in result.metrics}


def _at_once(series: Series, baseline: list[list[float]], current: list[list[float]]) -> Iterator[Played]:
    """Ask the rule about many comparisons of one metric, look after look, as the gate does one by one."""
    import numpy as np

    from perfgate.verdict import rule

    before, now = np.log(np.array(baseline)), np.log(np.array(current))
    medians = np.median(np.array(baseline), axis=-1)
    limit = np.log1p(np.maximum(series.limit.relative, series.limit.absolute / medians))
    prior = np.maximum(series.noise.relative, series.noise.absolute / medians)
    processes = now.shape[-1]
    verdicts = np.full(len(before), Verdict.INCONCLUSIVE, dtype=object)
    taken = np.full(len(before), processes)
    for total in dict.fromkeys((1, *totals(processes))):
        (open_,) = np.nonzero(verdicts == Verdict.INCONCLUSIVE)
        if not len(open_):
            break
        look = rule.look(before[open_], now[open_, :total], limit[open_], prior[open_], last=total == processes)
        for word, says in (
            (Verdict.UNCHANGED, look.unchanged),
            (Verdict.IMPROVED, look.improved),
            (Verdict.REGRESSED, look.regressed),
        ):
            verdicts[open_[says]] = word
            taken[open_[says]] = total
    yield from (Played(Verdict(verdict), int(total)) for verdict, total in zip(verdicts, taken, strict=True))
