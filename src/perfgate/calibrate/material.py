"""What did a process of the pool find out about a case? Its rows as the gate's own records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from perfgate.calibrate.pool import PooledCase, Row, Series
from perfgate.calibrate.steps import NONE
from perfgate.model import Baseline, Limit, Measurement, Metric, Outcome, StoredMetric


class Material:
    """The rows of one case, to be put together into comparisons.

    Args:
        case: what the pool has of it.
        limit: replaces the limit of each time; None keeps those of the case.
    """

    def __init__(self, case: PooledCase, limit: Limit | None = None) -> None:
        self._method = case.method
        self.series = [
            replace(series, limit=limit) if limit is not None and series.unit == "s" else series
            for series in case.series.values()
        ]
        self._rows = {(series.name, step): series.of(step) for series in self.series for step in (NONE, *series.steps)}
        every = [set(self._rows[series.name, NONE]) for series in self.series]
        #: Processes that measured all of the case's metrics.
        self.processes = frozenset.intersection(*map(frozenset, every)) if every else frozenset()
        self._having = {NONE: self.processes}
        for (_, step), rows in self._rows.items():
            if step != NONE:
                self._having[step] = self._having.get(step, frozenset()) | (self.processes & rows.keys())

    def having(self, step: str) -> frozenset[int]:
        """Give the processes that can be the side with a step; all of them without one."""
        return self._having.get(step, frozenset())

    def rows(self, series: Series, step: str) -> list[Row]:
        """Give the rows of a metric without and with a step."""
        return [*self._rows[series.name, NONE].values(), *self._rows.get((series.name, step), {}).values()]

    def row(self, series: Series, process: int, step: str = NONE) -> Row:
        """Give one row; that without extra work where the step is one of another metric."""
        return self._rows.get((series.name, step), {}).get(process) or self._rows[series.name, NONE][process]

    def baseline(self, processes: Sequence[int]) -> Baseline:
        """Bring what some processes measured of unchanged code together, as a recording does."""
        metrics = tuple(self._stored(series, processes) for series in self.series)
        return Baseline("", Outcome.PASSED, metrics, self._method, {}, "", "")

    def _stored(self, series: Series, processes: Sequence[int]) -> StoredMetric:
        rows = [self.row(series, process) for process in processes]
        names = [name for name in rows[0].speeds if all(name in row.speeds for row in rows)]
        speeds = {name: tuple(row.speeds[name] for row in rows) for name in names}
        return StoredMetric(series.name, series.unit, series.better, tuple(row.value for row in rows), None, speeds)

    def measurement(self, process: int, step: str = NONE) -> Measurement:
        """Give what one process measured."""
        metrics = tuple(_metric(series, self.row(series, process, step)) for series in self.series)
        return Measurement("", "", metrics=metrics, method=self._method)


def _metric(series: Series, row: Row) -> Metric:
    return Metric(
        series.name, series.unit, row.value, series.better, series.limit, series.noise, speeds=dict(row.speeds)
    )
