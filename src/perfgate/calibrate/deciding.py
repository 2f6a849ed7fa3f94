"""What would the gate have said? Its own rules, screen and confirmation, on processes of a pool."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from perfgate.calibrate.pool import PooledCase, Row, Series
from perfgate.calibrate.splits import Split
from perfgate.calibrate.steps import NONE
from perfgate.model import Baseline, Limit, Measurement, Metric, Outcome, StoredMetric, Verdict
from perfgate.verdict.case import judge, totals
from perfgate.verdict.speeds import CLOCK, SAME_CLOCK


@dataclass(frozen=True)
class Played:
    """One comparison as the gate would have made it.

    Attributes:
        verdict: on the case.
        processes: of now, the screening one included, that it took.
    """

    verdict: Verdict
    processes: int


class Player:
    """Plays comparisons of one case.

    Args:
        case: what the pool has of it.
        limit: replaces the limit of each time; None keeps those of the case.
    """

    def __init__(self, case: PooledCase, limit: Limit | None = None) -> None:
        self._method = case.method
        self._series = [
            replace(series, limit=limit) if limit is not None and series.unit == "s" else series
            for series in case.series.values()
        ]
        self._rows = {(series.name, step): series.of(step) for series in self._series for step in (NONE, *series.steps)}
        every = [set(self._rows[series.name, NONE]) for series in self._series]
        #: Processes that measured all of the case's metrics.
        self.processes = frozenset.intersection(*map(frozenset, every)) if every else frozenset()

    def can(self, split: Split, step: str) -> bool:
        """Tell whether the pool has what a comparison needs: a whole baseline, and a process with the step."""
        return self.processes.issuperset(split.baseline) and bool(self._current(split, step, 1))

    def play(self, split: Split, step: str = NONE, most: int = 12) -> Played:
        """Compare.

        Args:
            split: which processes.
            step: the extra work of the current side.
            most: current processes, as ``--perf-processes`` has them; fewer where the pool has fewer.
        """
        current = self._current(split, step, most)
        baseline = self._baseline(split.baseline)
        measurements = [self._measurement(process, step) for process in current]
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
        if step == NONE:
            return [process for process in split.others if process in self.processes][:most]
        stepped = {process for (_, name), rows in self._rows.items() if name == step for process in rows}
        return [process for process in split.others if process in stepped and process in self.processes][:most]

    def _row(self, series: Series, process: int, step: str) -> Row:
        return self._rows.get((series.name, step), {}).get(process) or self._rows[series.name, NONE][process]

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
            baseline = [[self._rows[series.name, NONE][p].value for p in drawn[place].baseline] for place in places]
            current = [
                [self._row(series, p, step).value for p in self._current(drawn[place], step, most)] for place in places
            ]
            for place, found in zip(places, _at_once(series, baseline, current), strict=True):
                played[place] = found
        return played

    def _lone(self, step: str) -> Series | None:
        """Give the only metric whose figures differ, if it is positive, less of it is better and the clock steady."""
        varying = []
        for series in self._series:
            rows = [*self._rows[series.name, NONE].values(), *self._rows.get((series.name, step), {}).values()]
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

    def _baseline(self, processes: Sequence[int]) -> Baseline:
        metrics = tuple(self._stored(series, processes) for series in self._series)
        return Baseline("", Outcome.PASSED, metrics, self._method, {}, "", "")

    def _stored(self, series: Series, processes: Sequence[int]) -> StoredMetric:
        rows = [self._rows[series.name, NONE][process] for process in processes]
        names = [name for name in rows[0].speeds if all(name in row.speeds for row in rows)]
        speeds = {name: tuple(row.speeds[name] for row in rows) for name in names}
        return StoredMetric(series.name, series.unit, series.better, tuple(row.value for row in rows), None, speeds)

    def _measurement(self, process: int, step: str) -> Measurement:
        metrics = tuple(_metric(series, self._row(series, process, step)) for series in self._series)
        return Measurement("", "", metrics=metrics, method=self._method)

    def detectable(self, split: Split, most: int = 12) -> Mapping[str, float | None]:
        """Give, by metric, the smallest slow-down that a whole confirmation of unchanged code could have shown."""
        current = self._current(split, NONE, most)
        result = judge(
            self._baseline(split.baseline), [self._measurement(process, NONE) for process in current], last=True
        )
        return {each.name: each.detectable if each.relative else None for each in result.metrics}


def _metric(series: Series, row: Row) -> Metric:
    return Metric(
        series.name, series.unit, row.value, series.better, series.limit, series.noise, speeds=dict(row.speeds)
    )


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
