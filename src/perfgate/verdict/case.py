"""What is the verdict on one case? Its outcome first, then what it was measured with, then each of its metrics.

The case carries the worst word of its metrics (:data:`perfgate.model.SEVERITY`). Absence is never success: a stored
metric that is no longer measured is REMOVED, one that is not stored is NEW, and a case without any metric is SKIPPED.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from perfgate import outcomes, units
from perfgate.model import (
    FAILING,
    FAILING_STRICT,
    SEVERITY,
    Baseline,
    CaseResult,
    Measurement,
    Metric,
    MetricVerdict,
    Outcome,
    StoredMetric,
    Verdict,
)
from perfgate.verdict import cycles
from perfgate.verdict.decide import decide, settle
from perfgate.verdict.rule import TOTALS

_ABSENT = "not recorded"


def totals(limit: int) -> tuple[int, ...]:
    """Give the numbers of processes after which suspicious cases are judged: 4, 8 and 12, cut at ``limit``.

    The last number is always ``limit``, so that a user who allows more processes than 12 gets one more look at the end.
    One process is the screen, and then there is no other look: ``totals(1) == (1,)``.

    Args:
        limit: the most processes, the screening one included; at least 1.
    """
    if limit < 1:
        raise ValueError(f"at least the screening process must run, not {limit}")
    return (*(total for total in TOTALS if total < limit), limit)


def fails(verdict: Verdict, strict: bool) -> bool:
    """Say whether a verdict fails its test."""
    return verdict in (FAILING_STRICT if strict else FAILING)


def judge(
    baseline: Baseline | None,
    measurements: Sequence[Measurement],
    *,
    last: bool,
    only: frozenset[str] | None = None,
    by: Callable[..., MetricVerdict] = settle,
) -> CaseResult:
    """Judge a case from what every process so far found out about it.

    Args:
        baseline: what is stored, or None.
        measurements: one a process, the screening one first.
        last: no further process will come. Otherwise INCONCLUSIVE metrics are undecided and want repeating.
        only: the metrics that more processes were started for. The others keep their verdict from the screen. None
            judges all of them.
        by: judges one metric, as :func:`perfgate.verdict.decide.settle` does.

    Returns:
        The result. Its ``failed`` is left to the caller, who knows about ``--perf-strict``.
    """
    if not measurements:
        raise ValueError("a case without a measurement cannot be judged")
    first = measurements[0]
    result = CaseResult(
        case=first.case,
        key=first.key,
        verdict=Verdict.SKIPPED,
        outcome=first.outcome,
        processes=len(measurements),
        work=first.work,
        copy_bandwidth=first.copy_bandwidth,
        method=first.method,
        conditions=first.conditions,
        reported=first.reported,
        attached=first.attached,
        environment=first.environment,
    )
    if baseline is not None:
        result = replace(
            result,
            baseline_environment=baseline.environment,
            baseline_notes=baseline.notes,
            baseline_commit=baseline.commit,
            baseline_date=baseline.date,
        )
    passed = [each for each in measurements if each.outcome is Outcome.PASSED]
    changed = _differences(baseline, passed) if baseline else ""
    metrics = tuple(_metrics(baseline, passed, changed, last=last, only=only, by=by)) if passed else ()
    result = replace(result, metrics=metrics)
    if first.outcome is Outcome.PASSED and len(passed) < len(measurements):
        return _unsteady(result, measurements)
    if first.outcome is not Outcome.PASSED or (baseline and baseline.outcome is not Outcome.PASSED):
        return _by_outcome(result, baseline, first)
    if not metrics:
        return replace(result, reason="nothing was measured")
    if baseline is None:
        return replace(result, verdict=Verdict.NEW, reason="no baseline")
    words = {metric.verdict for metric in metrics}
    verdict = min(words, key=SEVERITY.index)
    if not last and Verdict.INCONCLUSIVE in words and verdict not in FAILING:
        # Only what already fails may end a case early: a STALE metric must not hide that another is under suspicion.
        verdict = Verdict.INCONCLUSIVE
    reason = changed if verdict is Verdict.STALE and changed else _reasons(metrics, verdict)
    return replace(result, verdict=verdict, reason=reason)


def _by_outcome(result: CaseResult, baseline: Baseline | None, first: Measurement) -> CaseResult:
    """Judge a case of which at least one side did not pass."""
    now = _told(first.outcome, first.reason)
    same = baseline is not None and baseline.outcome is first.outcome
    if first.outcome is Outcome.SKIPPED:
        return replace(result, verdict=Verdict.SKIPPED, reason=first.reason)
    if first.outcome is Outcome.FAILED and not same:
        return replace(result, verdict=Verdict.SKIPPED, reason="the test failed; its time was not judged")
    if baseline is None:
        return replace(result, verdict=Verdict.NEW, reason=f"no baseline; {now}")
    if same:
        return replace(result, verdict=Verdict.UNCHANGED, reason=f"still {now}")
    better = first.outcome is Outcome.PASSED
    # A process that died may not have told what it ran with.
    changed = _differences(baseline, [first]) if first.method and first.environment else ""
    return replace(
        result,
        verdict=Verdict.IMPROVED if better else Verdict.OUTCOME_CHANGED,
        reason=f"{outcomes.words(baseline.outcome)} -> {now}" + (f" ({changed})" if changed else ""),
    )


def _unsteady(result: CaseResult, measurements: Sequence[Measurement]) -> CaseResult:
    """Judge a case that passed in the first process and ended otherwise in a fresh one."""
    others = [each for each in measurements if each.outcome is not Outcome.PASSED]
    counts = Counter(each.outcome for each in others)
    ended = " and ".join(f"{outcomes.words(outcome)} in {number}" for outcome, number in counts.items())
    cause = f": {others[0].reason}" if others[0].reason else ""
    return replace(
        result,
        verdict=Verdict.OUTCOME_CHANGED,
        outcome=counts.most_common(1)[0][0],
        reason=f"{ended} of {units.count(len(measurements), 'process', 'processes')}{cause}",
    )


def _told(outcome: Outcome, reason: str) -> str:
    return outcomes.words(outcome) + (f": {reason}" if reason else "")


def _metrics(
    baseline: Baseline | None,
    measurements: Sequence[Measurement],
    changed: str,
    *,
    last: bool,
    only: frozenset[str] | None,
    by: Callable[..., MetricVerdict],
) -> Iterable[MetricVerdict]:
    """Judge every metric that is measured or stored, the measured ones first."""
    known = {metric.name: metric for metric in baseline.metrics} if baseline else {}
    measured = {metric.name: None for each in measurements for metric in each.metrics}
    for name in measured:
        values = _each(measurements, name)
        stored = known.pop(name, None)
        if stored is None and baseline is not None and baseline.outcome is Outcome.PASSED:
            stored = _understood(values[0])
        if stored is None:
            yield replace(_new(values), reason="not in the baseline" if baseline else "")
        elif stale := changed or _redefined(stored, values[0]):
            yield _stale(stored, values, stale)
        elif only is None or name in only:
            yield _in_words(by(stored, values, last=last))
        else:
            yield _in_words(decide(stored, values[:1], last=False))
    yield from map(_removed, known.values())


def _understood(metric: Metric) -> StoredMetric | None:
    """Give what a baseline that does not hold a metric had, where that is known."""
    if metric.unless_stored is None:
        return None
    return StoredMetric(metric.name, metric.unit, metric.better, (metric.unless_stored,))


def _in_words(verdict: MetricVerdict) -> MetricVerdict:
    """Say why a change is not that of the values beside it, where it is not."""
    return replace(verdict, reason=cycles.explained(verdict))


def _each(measurements: Sequence[Measurement], name: str) -> list[Metric]:
    return [metric for each in measurements for metric in each.metrics if metric.name == name]


def _new(values: Sequence[Metric]) -> MetricVerdict:
    metric = values[-1]
    each_value = tuple(each.value for each in values)
    value = statistics.median(each_value)
    return MetricVerdict(metric.name, metric.unit, value, Verdict.NEW, metric.better, values=each_value)


def _removed(stored: StoredMetric) -> MetricVerdict:
    value = statistics.median(stored.values)
    return MetricVerdict(
        name=stored.name,
        unit=stored.unit,
        value=value,
        verdict=Verdict.REMOVED,
        better=stored.better,
        baseline=value,
        reason="stored, but no longer measured; its value is the stored one",
        baseline_values=stored.values,
    )


def _stale(stored: StoredMetric, values: Sequence[Metric], reason: str) -> MetricVerdict:
    """Show the figures all the same, unless they are in different units."""
    if stored.unit != values[0].unit:
        return replace(_new(values), verdict=Verdict.STALE, reason=reason)
    return replace(decide(stored, values, last=True), verdict=Verdict.STALE, reason=reason)


def _redefined(stored: StoredMetric, metric: Metric) -> str:
    """Name what makes a metric another one than the stored metric of its name."""
    changes = []
    if stored.unit != metric.unit:
        changes.append(f"unit {stored.unit} -> {metric.unit}")
    if stored.better != metric.better:
        changes.append(f"better {stored.better} -> {metric.better}")
    return ", ".join(changes)


def _differences(baseline: Baseline, measurements: Sequence[Measurement]) -> str:
    """Name each difference in method and environment, e.g. ``torch 2.11.0 -> 2.13.0, driver 580.1 -> 590.2``."""
    found: dict[str, None] = {}
    for each in measurements:
        found.update(dict.fromkeys(_changes(baseline.method, each.method, {"version": "method version"})))
        found.update(dict.fromkeys(_changes(baseline.environment, each.environment, {})))
    return ", ".join(found)


def _changes(before: Mapping[str, str], now: Mapping[str, str], titles: Mapping[str, str]) -> Iterable[str]:
    for name in {**before, **now}:
        old, new = before.get(name, _ABSENT), now.get(name, _ABSENT)
        if old != new:
            yield f"{titles.get(name, name)} {old} -> {new}"


def _reasons(metrics: Sequence[MetricVerdict], verdict: Verdict) -> str:
    """Collect the reasons of the metrics that gave the case its verdict, each behind the metric's name."""
    told = [f"{metric.name}: {metric.reason}" for metric in metrics if metric.verdict is verdict and metric.reason]
    return "; ".join(told)
