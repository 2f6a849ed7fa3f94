"""What would ``--perf-ab`` have said? Its rules, one pair and up to twelve, on processes of a pool.

The further pairs that it gives to what looks slower after twelve are not played: a pool seldom has as many processes.

A pool does not tell whether a test names its limit of wall time or has the one that stored baselines get without it. A
limit that is the latter is taken for not named, and becomes the one of base and head in one run.
"""

from __future__ import annotations

from dataclasses import replace

from perfgate.ab import judge
from perfgate.calibrate.deciding import Played
from perfgate.calibrate.material import Material
from perfgate.calibrate.pairing import Pairs
from perfgate.calibrate.pool import PooledCase
from perfgate.calibrate.steps import NONE
from perfgate.measure.case import DEVICE_WALL_LIMIT
from perfgate.measure.wall import WALL_LIMIT_CPU
from perfgate.model import CaseResult, Limit, Measurement, Verdict
from perfgate.verdict.case import totals

_UNNAMED = (WALL_LIMIT_CPU, DEVICE_WALL_LIMIT)


class PairPlayer:
    """Plays comparisons of base and head of one case.

    Args:
        case: what the pool has of it.
        level: of each look, :func:`perfgate.ab.judge.alarm` of the cases that a run compares.
        limit: replaces the limit of each time; None keeps those of the case.
    """

    def __init__(self, case: PooledCase, level: float, limit: Limit | None = None) -> None:
        self._material = Material(case, limit)
        self._level = level
        self._named = limit is not None
        self._metrics = {step: series.name for step, series in case.steps.items()}

    def sides(self, step: str = NONE) -> tuple[frozenset[int], frozenset[int]]:
        """Give the processes that measured the case, and those of them that can be the head with a step."""
        return self._material.processes, self._material.having(step)

    def play(self, pairs: Pairs, step: str = NONE, most: int = 12) -> Played:
        """Compare.

        Args:
            pairs: which processes.
            step: the extra work of the head.
            most: pairs, as ``--perf-processes`` has them; fewer where there are fewer.
        """
        allowed = min(len(pairs), most)
        head = [self._head(process, step) for process in pairs.head[:allowed]]
        for total in dict.fromkeys((1, *totals(allowed))):
            baseline = self._material.baseline(pairs.base[:total])
            result = judge.by_rule(baseline, head[:total], level=self._level, last=total == allowed)
            if result.verdict is not Verdict.INCONCLUSIVE:
                break
        return Played(result.verdict, total, self._change(result, step))

    def _change(self, result: CaseResult, step: str) -> float | None:
        """Give the change in the metric that has the step, in the view that its verdict rests on."""
        metric = next((each for each in result.metrics if each.name == self._metrics.get(step)), None)
        return metric.change if metric is not None and metric.relative else None

    def _head(self, process: int, step: str) -> Measurement:
        measured = self._material.measurement(process, step)
        metrics = tuple(
            judge.in_one_run(metric, metric.limit if self._named or metric.limit not in _UNNAMED else None)
            for metric in measured.metrics
        )
        return replace(measured, metrics=metrics)
