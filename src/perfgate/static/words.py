"""How is a change of compiled code told? As ``registers 40 -> 64, occupancy 62.5 % -> 37.5 % on sm90``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from perfgate.model import Baseline, CaseResult, Measurement, MetricVerdict, Outcome, Verdict
from perfgate.static.metrics import WORDS, split
from perfgate.static.targets import KEY_PREFIX
from perfgate.units import together

#: Changes of these verdicts are told; where something got worse, what got better beside it may be why.
_TOLD = (Verdict.REGRESSED, Verdict.IMPROVED)


def explained(result: CaseResult, baseline: Baseline | None, measurement: Measurement) -> CaseResult:
    """Tell the result of a static case in words of its own.

    Figures of another compiler say nothing of the kernel: whatever they are, the baseline is STALE.
    """
    if baseline is not None and result.verdict in (Verdict.OUTCOME_CHANGED, Verdict.IMPROVED):
        changed = _other_compiler(baseline.environment, measurement.environment)
        if changed and result.outcome is not Outcome.FAILED:
            told = f"{result.reason} ({changed})" if changed not in result.reason else result.reason
            return replace(result, verdict=Verdict.STALE, reason=told)
    if result.verdict not in _TOLD or result.outcome is not Outcome.PASSED or not result.metrics:
        return result
    metrics = tuple(replace(each, reason="") if each.verdict in _TOLD else each for each in result.metrics)
    if told := _told(metrics):
        # It asks for figures of launched kernels, which are told in words.
        from perfgate.static import launch_change

        target = result.key.removeprefix(KEY_PREFIX)
        launched = launch_change.told(baseline.kernels if baseline else {}, measurement.kernels)
        lines = [*_named(metrics, measurement), *launched]
        return replace(result, metrics=metrics, reason="\n".join([f"{told} on {target}", *lines]))
    return result


def _named(metrics: Sequence[MetricVerdict], measurement: Measurement) -> Iterable[str]:
    """Say in words what a figure counts that regressed."""
    regressed = {each.name for each in metrics if each.verdict is Verdict.REGRESSED}
    for each in measurement.metrics:
        if each.about and each.name in regressed:
            yield f"{WORDS[each.name]}: {each.about}"


def _other_compiler(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    return ", ".join(
        f"{name} {before.get(name, 'not recorded')} -> {now.get(name, 'not recorded')}"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    )


def _told(metrics: Sequence[MetricVerdict]) -> str:
    """Tell what changed, what got worse first."""
    changed = [each for verdict in _TOLD for each in metrics if each.verdict is verdict]
    kernels = dict.fromkeys(split(each.name)[0] for each in changed)
    parts = []
    for kernel in kernels:
        told = ", ".join(_change(each) for each in changed if split(each.name)[0] == kernel)
        parts.append(f"{kernel}: {told}" if kernel else told)
    return "; ".join(parts)


def _change(metric: MetricVerdict) -> str:
    assert metric.baseline is not None
    return change(split(metric.name)[1], metric.unit, metric.baseline, metric.value)


def change(figure: str, unit: str, before: float, now: float) -> str:
    """Tell the change of one figure, e.g. ``shared memory 16 KiB -> 48 KiB``."""
    values = together([before, now], unit)
    if unit == "B" and max(before, now) < 1024:
        values = [f"{value:.3g} B" if value < 1000 else f"{value:.0f} B" for value in (before, now)]
    if unit == "%":
        values = [f"{value:.3g} %" for value in (before, now)]
    return f"{WORDS.get(figure, figure)} {values[0]} -> {values[1]}"


def differences(before: Mapping[str, tuple[str, float]], now: Mapping[str, tuple[str, float]]) -> Iterable[str]:
    """Tell every figure that differs between two sets of them: name to unit and value."""
    for name, (unit, value) in now.items():
        if name in before and before[name][1] != value:
            yield change(name, unit, before[name][1], value)
