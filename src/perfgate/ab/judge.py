"""Is the head slower than the base? The base's processes are the baseline of the same run, under the gate's own rule.

Base and head run in turn on one machine, the order flipped with each pair, so that a trend of the machine's falls on
both sides alike. That allows to fit how strongly a case feels the machine's speeds (:mod:`perfgate.verdict.fitted`).
The two sides are compared as samples of their own rather than pair by pair. What they share within a pair makes that
cautious, never hasty: over 30 pairs of three functions, with seven to twelve processes on two cores, differences within
a pair scattered 7 to 31 % less than independent processes would, in cycles of the view that fits the function. A test
on differences would gain that and lose half of its degrees of freedom (its interval is 10 % wider for it), and no rank
test on differences reaches 0.1 % before 10 pairs.

*Limit*: 5 % for wall time, where a test names none itself. The 10 % of a stored baseline allow for a machine that is
not the same on another day; here both sides see the same day. A function that is 10 % slower lies at twice this limit.
Other limits (device time, memory, recorded figures) are about the code, and stay.

*Error levels*: :mod:`perfgate.verdict.rule` shares 2 % among 200 cases and three looks. A pull request touches fewer.
Here the 2 % are shared among the cases that this run compares and up to five looks, and no look is less strict than
0.1 %. The rank test is as much stricter, 0.0006 instead of 0.001, because more looks are taken: no REGRESSED before 8
pairs, unless a figure repeats exactly.

*Screen*: a pair alone clears a metric only if its interval, made of the noise that the metric is known to have,
excludes a change of twice the limit. That clears what repeats exactly, memory and most of device time. Wall time on a
CPU is hardly ever cleared by one pair: with 3 % between processes, a 10 % slow-down looks like less than 5 % in one
pair of seven.

*Further pairs*: with 3 % between processes 12 pairs find nearly every slow-down by 10 %, with 5 % two of three. What
ends INCONCLUSIVE or THROTTLED after the usual 12, and is slower than its limit allows in plain values or in the view
shown, is therefore repeated up to 18 and 24 pairs. Everything else ends after 12, and costs no more than before.

Simulated (``tests/test_ab_judge.py``, Gaussian noise between processes on a machine of one speed, one case a run): a 10
% slow-down is REGRESSED in all of 4000 runs where the noise is 2 or 3 %, in 99.2 % at 4 % and in 96 % at 5 % (91 and 66
% without further pairs); what is not found is INCONCLUSIVE, and in at most 2.1 % UNCHANGED. Unchanged code is REGRESSED
in none of 20 000 runs at 2 %, in 6 at 3 % and in 11 at 5 %. Where half of the processes take 30 % longer, 10 unchanged
cases raise an alarm in 1.6 to 2.5 % of runs. At 2 % it takes 6 pairs on average to clear a case, and 8 to find a
slow-down.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from perfgate.errors import BaselineError
from perfgate.model import (
    Baseline,
    CaseResult,
    Limit,
    Measurement,
    Metric,
    MetricVerdict,
    Noise,
    Outcome,
    StoredMetric,
    Verdict,
)
from perfgate.plan import Plan
from perfgate.units import count
from perfgate.verdict import causes
from perfgate.verdict.case import judge, totals
from perfgate.verdict.decide import decide
from perfgate.verdict.rule import RANK, TOTALS

#: The change in wall time that is allowed where the test names no limit.
WALL_LIMIT = Limit(0.05)
#: Between processes that follow each other on one machine, in cycles of it.
WALL_NOISE = Noise(0.02)
#: Share of runs without any change that may raise an alarm.
ALARMS = 0.02
#: The least strict level of a look, whatever the number of cases.
LOOSEST = 1e-3
#: Numbers of pairs after which a case is judged again that is undecided and looks slower.
FURTHER = (18, 24)
_LOOKS_AT_MOST = len(TOTALS) + len(FURTHER)
#: p-value that the rank test must reach at each look.
RANK_OF_PAIRS = RANK * len(TOTALS) / _LOOKS_AT_MOST
#: What further pairs may still decide.
_OPEN = (Verdict.INCONCLUSIVE, Verdict.THROTTLED)
_WALL = "wall_time"


def alarm(cases: int) -> float:
    """Give the level of each look, so that a run of so many unchanged cases raises few alarms."""
    return min(LOOSEST, ALARMS / (_LOOKS_AT_MOST * max(cases, 1)))


def stages(pairs: int) -> tuple[int, ...]:
    """Give the numbers of pairs after which cases are judged.

    Args:
        pairs: the most pairs that the user allows; :data:`FURTHER` follows where that is the usual number.
    """
    further = FURTHER if pairs == TOTALS[-1] else ()
    return tuple(dict.fromkeys((1, *totals(pairs), *further)))


def looks_slower(result: CaseResult) -> bool:
    """Whether an open metric of a case is worse than its limit allows, in plain values or as it is shown."""
    return result.verdict in _OPEN and any(map(_looks_worse, result.metrics))


def _looks_worse(metric: MetricVerdict) -> bool:
    if metric.verdict not in _OPEN or metric.baseline is None or metric.limit is None:
        return False
    plain = metric.value - metric.baseline
    if metric.relative:
        plain /= metric.baseline
    changes = (plain, metric.change or 0.0)
    return any((change if metric.better == "lower" else -change) > metric.limit for change in changes)


def limited(measurement: Measurement, plan: Plan) -> Measurement:
    """Give a measurement the limits and the noise of a comparison in one run.

    Args:
        measurement: of the head.
        plan: what the test's ``perf`` marker asks for.
    """
    metrics = tuple(in_one_run(metric, plan.time) for metric in measurement.metrics)
    return replace(measurement, metrics=metrics)


def in_one_run(metric: Metric, named: Limit | None) -> Metric:
    """Give a metric the limit and the noise of a comparison in one run.

    Args:
        metric: of the head.
        named: the limit of time that the test itself names, if it names one.
    """
    if metric.name != _WALL:
        return metric
    return replace(metric, limit=named or WALL_LIMIT, noise=WALL_NOISE)


def compare(
    base: Sequence[Measurement],
    head: Sequence[Measurement],
    *,
    commit: str,
    level: float,
    last: bool,
    looks: Sequence[int] = (1, *TOTALS),
) -> CaseResult:
    """Judge a case from what the processes of both sides found out.

    Args:
        base: one a process; at least one.
        head: one a process, those of the same pairs; at least one.
        commit: the base's.
        level: see :func:`alarm`.
        last: no further pair will come, or only because the case looks slower.
        looks: see :func:`stages`.
    """
    steady = _steady(base)
    try:
        baseline = _baseline(steady, head[0], commit)
    except BaselineError as error:
        return replace(_ended(head[0]), verdict=Verdict.INCONCLUSIVE, reason=error.what)
    if head[0].outcome is Outcome.FAILED:
        # The test's own failure, whatever the base does.
        baseline = None
    result = by_rule(baseline, head, level=level, last=last, looks=looks)
    result = causes.explained(result, baseline, head)
    return _as_told(result, baseline, head[0])


def by_rule(
    baseline: Baseline | None,
    head: Sequence[Measurement],
    *,
    level: float,
    last: bool,
    looks: Sequence[int] = (1, *TOTALS),
) -> CaseResult:
    """Apply the rule, without the words that :func:`compare` adds.

    Args:
        baseline: the base's processes brought together; None when it has nothing to compare with.
        head: one a process, of the same pairs.
        level: see :func:`alarm`.
        last: no further pair will come, or only because the case looks slower.
        looks: see :func:`stages`.
    """
    return judge(baseline, head, last=last, by=functools.partial(settle, alarm=level, looks=looks))


def settle(
    stored: StoredMetric,
    current: Sequence[Metric],
    *,
    last: bool,
    alarm: float,
    looks: Sequence[int] = (1, *TOTALS),
) -> MetricVerdict:
    """Judge one metric as it would have been judged pair by pair: the first word that stands is kept.

    Args:
        stored: the base's, one value a pair.
        current: the head's, in the same order.
        last: no further pair will come after these, or only because the case looks slower.
        alarm: the level of each look.
        looks: numbers of pairs after which the case is judged; those of :data:`FURTHER` come after a last look.
    """
    pairs = min(len(stored.values), len(current))
    # What repeats exactly ends after one pair, and what one side no longer runs after fewer than the usual ones.
    usual = min(TOTALS[-1], pairs) if FURTHER[-1] in looks else pairs
    for total in sorted({*(look for look in looks if look < pairs), pairs}):
        ended = total >= usual and (last or total < pairs)
        verdict = decide(
            _first(stored, total), current[:total], last=ended, alarm=alarm, rank=RANK_OF_PAIRS, in_turn=True
        )
        if total == 1 and not ended and _may_hide(verdict):
            verdict = replace(verdict, verdict=Verdict.INCONCLUSIVE, reason="undecided after 1 pair")
        if verdict.verdict is not Verdict.INCONCLUSIVE and not (verdict.verdict is Verdict.THROTTLED and ended):
            break
    return verdict


def _first(stored: StoredMetric, processes: int) -> StoredMetric:
    speeds = {name: values[:processes] for name, values in stored.speeds.items()}
    return replace(stored, values=stored.values[:processes], speeds=speeds)


def _steady(base: Sequence[Measurement]) -> list[Measurement]:
    """Give the base's processes that ended as most of them did."""
    outcome, _ = Counter(each.outcome for each in base).most_common(1)[0]
    return [each for each in base if each.outcome is outcome]


def _baseline(base: Sequence[Measurement], head: Measurement, commit: str) -> Baseline | None:
    """Make a baseline of the base's processes, as a recording does; None when it has nothing to compare with."""
    first = base[0]
    if first.outcome is Outcome.SKIPPED:
        return None
    if first.outcome is not Outcome.PASSED:
        # What a process died of may have kept it from saying what it ran with: it is what the head runs with.
        software, method = first.environment or head.environment, first.method or head.method
        return Baseline(first.case, first.outcome, (), method, software, commit, "")
    from perfgate.baseline.record import to_baseline

    return to_baseline(base, commit=commit, date="")


def _ended(head: Measurement) -> CaseResult:
    return CaseResult(head.case, head.key, Verdict.SKIPPED, head.outcome, processes=1)


def _may_hide(metric: MetricVerdict) -> bool:
    """Whether a change of twice the limit may hide behind a metric that one pair found unchanged."""
    if metric.verdict is not Verdict.UNCHANGED or metric.limit is None or metric.low is None or metric.high is None:
        return False
    worst = metric.high if metric.better == "lower" else -metric.low
    # Where nothing scatters the interval is a point, inside the limit already.
    return metric.low != metric.high and worst > 2 * metric.limit


#: What the rule says of baselines, as it is true of a base that was measured in the same run.
_WORDS = (
    ("the baseline's processes and", "those of the base and"),
    ("at the speed at recording", "at the base's speed"),
    ("of the speed at recording", "of its speed with the base"),
    ("stored, but no longer measured; its value is the stored one", "the base has it, and the head does not"),
    ("not in the baseline", "the base does not have it"),
    ("no baseline", "the base has nothing to compare with"),
)

#: Where the rule counts processes, two took part each time.
_LOOKS = re.compile(r"(?P<before>undecided after |: )(?P<number>\d+) process(?:es)?(?P<after>$|;| would show)")


def _as_told(result: CaseResult, baseline: Baseline | None, head: Measurement) -> CaseResult:
    """Say the reasons in terms of two sides, and add what differs in the compiled kernels."""
    reason = _said(result.reason)
    if baseline is not None and head.repeats:
        from perfgate.static import words

        result = words.explained(replace(result, reason=reason), baseline, head)
        reason = result.reason
    elif baseline is not None and result.verdict is Verdict.REGRESSED:
        from perfgate.static import launched

        reason = "\n".join([reason, *launched.compared(baseline.kernels, head.kernels)])
    metrics = tuple(replace(metric, reason=_said(metric.reason)) for metric in result.metrics)
    return replace(result, reason=reason, metrics=metrics)


def _said(reason: str) -> str:
    for stored, now in _WORDS:
        reason = reason.replace(stored, now)
    return _LOOKS.sub(lambda found: f"{found['before']}{count(int(found['number']), 'pair')}{found['after']}", reason)
