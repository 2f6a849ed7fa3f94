"""What is the verdict on one metric? Scale, rule and machine speeds put together, with a reason in words.

The rule is in :mod:`perfgate.verdict.rule`, the scale in :mod:`perfgate.verdict.scale`, and what the machine's own
speed has to say in :mod:`perfgate.verdict.speeds`.

How often it is wrong, simulated (``tests/test_verdict_simulation.py``, fixed seed; one noisy metric a case, processes
that do not influence each other, five of them recorded). 2000 suites of 200 unchanged cases under Gaussian noise (0.3,
0.66, 2 and 4 %), Student's t with 3 degrees of freedom (scales of 0.3, 2 and 4 %) and two modes (one process in ten is
5 % slower, beside 0.3 and 2 %), each with limits of 2 and 10 % and with a prior that is right, a third, triple or
absent:

- Suites with any REGRESSED: 0.75 % in the worst of these 72 settings (0.6 to 1.0 % over six seeds), at most 0.15 %
  with the right prior.
- INCONCLUSIVE cases: 3 in a million where Gaussian noise is at most a third of the limit; 17 % where it equals the
  limit (38 % with a prior that is three times too large).
- A 3 % slow-down under 0.3 % noise and a limit of 2 % is REGRESSED in at least 99.9 % of 6000 cases, after 8
  processes; a 30 % slow-down under 4 % noise and a limit of 10 % likewise.
- Where three processes in ten are 5 % slower (limit 2 %), 0.6 % of suites raise an alarm; 22 % would if 4 processes
  were enough.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Sequence

from perfgate import units
from perfgate.model import Metric, MetricVerdict, StoredMetric, Verdict
from perfgate.verdict import scale as scales
from perfgate.verdict.fitted import by_fit, fitted
from perfgate.verdict.objecting import by_clock
from perfgate.verdict.rule import ALARM, RANK, TOTALS, Look, look
from perfgate.verdict.scale import Scale
from perfgate.verdict.speeds import HOST, OBJECTING, Finding, by_views, common, steadiest, word


def decide(
    stored: StoredMetric,
    current: Sequence[Metric],
    *,
    last: bool,
    alarm: float = ALARM,
    rank: float = RANK,
    in_turn: bool = False,
) -> MetricVerdict:
    """Judge what was measured so far of one metric.

    Args:
        stored: the baseline, one value a recorded process.
        current: the metric from each process of now, the screening one first. Limit and noise are the last one's.
        last: no further process will come.
        alarm: level at which REGRESSED and IMPROVED exclude chance.
        rank: p-value that the rank test must reach for them.
        in_turn: both sides ran in turn on one machine, so that its speeds may be fitted
            (:mod:`perfgate.verdict.fitted`).

    Returns:
        The verdict. INCONCLUSIVE means "undecided, repeat" unless ``last``; every other word stands.
        CORRUPT when a value is not a finite number: neither side of such a comparison can be trusted.
    """
    if not current:
        raise ValueError(f"{stored.name}: nothing was measured")
    metric = current[-1]
    values = [each.value for each in current]
    broken = _broken(stored.values, values)
    if broken:
        return MetricVerdict(
            metric.name,
            metric.unit,
            statistics.median(values),
            Verdict.CORRUPT,
            metric.better,
            reason=broken,
            values=tuple(values),
            baseline_values=stored.values,
        )

    scale = scales.of(stored.values, values, higher=metric.better == "higher", limit=metric.limit, noise=metric.noise)
    rule = functools.partial(look, last=last, alarm=alarm, rank=rank)
    finding = _find(stored, current, scale, rule, last=last, in_turn=in_turn)
    shown = finding.look
    change = scale.change(float(shown.estimate))
    low, high = sorted((scale.change(float(shown.low)), scale.change(float(shown.high))))
    detectable = abs(scale.change(float(shown.detectable)))
    return MetricVerdict(
        name=metric.name,
        unit=metric.unit,
        value=statistics.median(values),
        verdict=finding.verdict,
        better=metric.better,
        baseline=statistics.median(stored.values),
        change=change,
        low=low,
        high=high,
        limit=scale.allowed,
        relative=scale.relative,
        reason=_reason(finding, scale, metric.unit, len(current), last=last),
        detectable=detectable,
        values=tuple(values),
        baseline_values=stored.values,
    )


def settle(stored: StoredMetric, current: Sequence[Metric], *, last: bool) -> MetricVerdict:
    """Judge one metric as it would have been judged process by process: the first word that stands is kept.

    A metric that was decided after 4 processes is not asked again after 8 because another metric of its case needed
    them: every further look would be one more chance of a false alarm.

    Args:
        stored: the baseline.
        current: the metric from each process of now, the screening one first.
        last: no further process will come after these.
    """
    totals = sorted({1, *(total for total in TOTALS if total < len(current)), len(current)})
    for total in totals:
        verdict = decide(stored, current[:total], last=last and total == len(current))
        if verdict.verdict is not Verdict.INCONCLUSIVE:
            break
    return verdict


def _find(
    stored: StoredMetric,
    current: Sequence[Metric],
    scale: Scale,
    rule: Callable[..., Look],
    *,
    last: bool,
    in_turn: bool,
) -> Finding:
    def at(baseline: Sequence[float], now: Sequence[float], wider: float = 1.0) -> Look:
        return rule(scale.figures(baseline), scale.figures(now), scale.limit, scale.prior * wider)

    values = [metric.value for metric in current]
    plain = at(stored.values, values)
    speeds = common(stored, current)
    # In turn both sides meet the same host; where one finds it slower in nearly every process, its own code did that.
    if not speeds or (in_turn and speeds[0].name == HOST):
        return Finding(word(plain), plain)
    views = [at(speed.values, speed.now) for speed in speeds]
    if speeds[0].name in OBJECTING:
        return by_clock(plain, views[0], speeds[0], scale.limit, last=last)

    def say(figure: float) -> str:
        change = scale.change(figure)
        return units.percent(change) if scale.relative else units.together([change], stored.unit, signed=True)[0]

    fit = None
    if in_turn and scale.relative:
        fit = fitted(stored.values, values, speeds, noise=scale.prior, limit=scale.limit)
    if fit is not None:
        seen = at(fit.base, fit.head, fit.wider)
        return by_fit(plain, views, seen, fit, speeds, scale.limit, say, last=last)
    best = steadiest(speeds) if scale.relative else None
    blend = at(best.values, best.now) if best is not None else None
    return by_views(plain, views, blend, speeds, scale.limit, say, last=last)


def _broken(stored: Sequence[float], current: Sequence[float]) -> str:
    if not stored:
        return "the baseline holds no value"
    for where, values in (("the baseline holds", stored), ("measured", current)):
        for value in values:
            if not math.isfinite(value):
                return f"{where} {value}, which is not a finite number"
    return ""


def _reason(finding: Finding, scale: Scale, unit: str, processes: int, *, last: bool) -> str:
    """Say why, in words; nothing for what is simply unchanged."""
    if finding.reason:
        return finding.reason
    shown = finding.look
    reason = ""
    if finding.verdict in (Verdict.REGRESSED, Verdict.IMPROVED):
        exact = shown.deviation == 0
        reason = "beyond the limit, and the figure repeats exactly" if exact else "beyond the limit and the noise"
    elif finding.verdict is Verdict.INCONCLUSIVE:
        count = units.count(processes, "process", "processes")
        if not last:
            reason = f"undecided after {count}"
        elif abs(shown.estimate) > scale.limit and (shown.low > 0 or shown.high < 0):
            reason = f"beyond the limit, but the baseline's processes and the {count} of now overlap"
        else:
            least = abs(scale.change(float(shown.detectable)))
            text = units.share(round(least, 3)) if scale.relative else units.quantity(least, unit)
            reason = f"noise too large to tell: {count} would show a change of {text} or more"
    return "; ".join(filter(None, (reason, finding.note)))
