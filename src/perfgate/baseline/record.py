"""What is the baseline of a case that was measured in several processes?"""

from __future__ import annotations

import statistics
from collections.abc import Hashable, Mapping, Sequence

from perfgate.baseline.check import Origin, examine
from perfgate.baseline.format import dump, dump_case, dump_environment, environment_id
from perfgate.errors import BaselineError
from perfgate.measure import notes
from perfgate.model import Baseline, Measurement, Metric, StoredMetric


def to_baseline(measurements: Sequence[Measurement], *, commit: str, date: str) -> Baseline:
    """Bring what several processes measured of one case together: one figure a process for each metric.

    Args:
        measurements: one a process, all of the same case on the same hardware.
        commit: the commit that was measured; empty outside of a repository.
        date: when, as ISO 8601 in UTC.

    Returns:
        The baseline, with the metrics sorted by name. It keeps the case's name as the measurements have it.

    Raises:
        BaselineError: there is no measurement, the processes disagree, or a figure cannot be stored.
    """
    if not measurements:
        raise BaselineError("no measurement to make a baseline of")
    case = measurements[0].case
    _agree(case, "the case", [each.case for each in measurements])
    _agree(case, "the hardware key", [each.key for each in measurements])
    _agree(case, "the outcome", [each.outcome for each in measurements])
    _agree_on_mapping(case, "method", [each.method for each in measurements])
    _agree_on_mapping(case, "environment", [each.environment for each in measurements])
    by_name = [_by_name(case, each.metrics) for each in measurements]
    for name in sorted({name for metrics in by_name for name in metrics}):
        lacking = [number for number, metrics in enumerate(by_name, 1) if name not in metrics]
        if lacking:
            raise _refused(
                f"{case}: the metric {name} is missing in {_processes(lacking)} of {len(by_name)}",
                "report the metric in every run of the test, or in none",
            )
    figures = ([metrics[name] for metrics in by_name] for name in sorted(by_name[0]))
    metrics = tuple(_stored(case, each) for each in figures if any(one.value != one.unless_stored for one in each))
    first = measurements[0]
    noted = notes.together(each.notes for each in measurements)
    software = dict(first.environment)
    baseline = Baseline(case, first.outcome, metrics, dict(first.method), software, commit, date, first.kernels, noted)
    _check(baseline, first.key)
    return baseline


def _by_name(case: str, metrics: Sequence[Metric]) -> dict[str, Metric]:
    by_name: dict[str, Metric] = {}
    for metric in metrics:
        if metric.name in by_name:
            raise _refused(f"{case}: the metric {metric.name} is reported twice", "give each metric a name of its own")
        by_name[metric.name] = metric
    return by_name


def _stored(case: str, metrics: Sequence[Metric]) -> StoredMetric:
    first = metrics[0]
    _agree(case, f"the unit of {first.name}", [metric.unit for metric in metrics])
    _agree(case, f"the better direction of {first.name}", [metric.better for metric in metrics])
    # (q3 - q1) / median is below 0 for a negative figure: the width is what counts.
    spreads = [abs(metric.spread) for metric in metrics if metric.spread is not None]
    # A speed only helps to explain a change, so one that a process could not read is left out instead of refused.
    speeds = [name for name in sorted(first.speeds) if all(metric.speeds.get(name, 0) > 0 for metric in metrics)]
    return StoredMetric(
        first.name,
        first.unit,
        first.better,
        tuple(float(metric.value) for metric in metrics),
        statistics.median(spreads) if spreads else None,
        {name: tuple(float(metric.speeds[name]) for metric in metrics) for name in speeds},
    )


def _check(baseline: Baseline, key: str) -> None:
    """Refuse what could be written but not be read back as a usable baseline."""
    name = environment_id(baseline.environment, {})
    environments = [(name, dump_environment(baseline.environment))]
    text = dump(key, environments, [(baseline.case, dump_case(baseline, name))])
    for damage in examine(text.encode("ascii"), Origin("", key, "")).damages:
        raise _refused(f"{baseline.case}: {damage.field}: {damage.problem}", "correct the figure in the test")


def _agree_on_mapping(case: str, what: str, mappings: Sequence[Mapping[str, str]]) -> None:
    for name in sorted({name for mapping in mappings for name in mapping}):
        _agree(case, f"the {what} ({name})", [mapping.get(name, "none") for mapping in mappings])


def _agree(case: str, what: str, values: Sequence[Hashable]) -> None:
    """Refuse values that differ between processes, saying which process had which."""
    by_value: dict[Hashable, list[int]] = {}
    for number, value in enumerate(values, 1):
        by_value.setdefault(value, []).append(number)
    if len(by_value) > 1:
        parts = [f"{value} in {_processes(numbers)}" for value, numbers in by_value.items()]
        raise _refused(
            f"{case}: the processes disagree on {what}: {', '.join(parts)}",
            "run the test alone with --perf-update=all; if it still differs, it cannot be gated yet",
        )


def _refused(what: str, hint: str) -> BaselineError:
    return BaselineError(what, "A baseline must hold for every process, so nothing is stored for this case.", hint)


def _processes(numbers: Sequence[int]) -> str:
    if len(numbers) == 1:
        return f"process {numbers[0]}"
    return f"processes {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
