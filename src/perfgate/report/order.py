"""Which case comes first in a report, and which of its metrics speaks for it? The worst."""

from __future__ import annotations

import math
from collections.abc import Iterable

from perfgate.model import SEVERITY, CaseResult, MetricVerdict, Verdict
from perfgate.report.throughput import time_metric
from perfgate.report.words import broke


def excess(metric: MetricVerdict) -> float:
    """Say how far beyond its limit a change is, in limits; 0 where there is no change."""
    if metric.change is None or not math.isfinite(metric.change):
        return 0.0
    return abs(metric.change) / metric.limit if metric.limit else abs(metric.change) * 1e3


def leading(result: CaseResult) -> MetricVerdict | None:
    """Give the metric that gave a case its verdict, else the time of its work, else the first one."""
    judged = [metric for metric in result.metrics if metric.verdict is result.verdict is not Verdict.UNCHANGED]
    if judged:
        return max(judged, key=excess)
    return time_metric(result) or (result.metrics[0] if result.metrics else None)


def worst_first(results: Iterable[CaseResult]) -> list[CaseResult]:
    """Order cases: by verdict, then by how far beyond the limit they are, then as they ran."""

    def rank(result: CaseResult) -> tuple[int, bool, float]:
        metric = leading(result)
        return SEVERITY.index(result.verdict), not broke(result), -excess(metric) if metric else 0.0

    return sorted(results, key=rank)
