"""What did this process find out about a case that has run? Its figures, or how it ended instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from perfgate import markers, outcomes
from perfgate.errors import SettingError
from perfgate.fixture import PerfBenchmark
from perfgate.model import Hardware, Measurement, Metric, Outcome
from perfgate.naming import case_of
from perfgate.replicate.wire import with_outcome
from perfgate.selection import is_compiled

FIXTURE = pytest.StashKey[PerfBenchmark]()
#: Outcome and reason of the first phase that raised.
_RAISED = pytest.StashKey[tuple[Outcome, str]]()


def finish(item: pytest.Item, reports: Sequence[pytest.TestReport], hardware: Hardware) -> Measurement:
    """Build the measurement of a finished case from its fixture and the reports of its phases."""
    if is_compiled(item):
        from perfgate.static import cases

        return cases.measurement_of(item, case_of(item), reports)
    fixture = item.stash.get(FIXTURE, None)
    if fixture is not None:
        device = fixture.device
    else:
        device = markers.device_for({mark.name for mark in item.iter_markers()}, hardware)
    measurement = Measurement(
        case=case_of(item),
        key=device.key,
        environment=dict(hardware.environments.get(device.kind, {})),
        reported=tuple(fixture.reported) if fixture is not None else (),
        attached=dict(fixture.attached) if fixture is not None else {},
    )
    for report in reports:
        if report.outcome == "passed":
            continue
        if report.outcome == "skipped":
            return with_outcome(measurement, Outcome.SKIPPED, _why_skipped(report))
        outcome, reason = item.stash.get(_RAISED, (Outcome.FAILED, ""))
        return with_outcome(measurement, outcome, reason or f"failed in {report.when}")
    if fixture is None:
        return measurement
    return replace(
        measurement,
        metrics=(*fixture.metrics, *_at_speed(fixture)),
        method=fixture.method,
        conditions=fixture.conditions,
        notes=fixture.notes,
        work=fixture.stated_work,
        kernels=fixture.kernels,
    )


def _why_skipped(report: pytest.TestReport) -> str:
    """Give the reason of a skip, or of a failure that was expected: its report holds a whole traceback."""
    if hasattr(report, "wasxfail"):
        return f"expected to fail: {report.wasxfail}" if report.wasxfail else "expected to fail"
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr or "")
    return reason.removeprefix("Skipped: ")


def _at_speed(fixture: PerfBenchmark) -> list[Metric]:
    """Give recorded durations and rates the machine's speed around the calls that were timed on the wall clock.

    On a GPU that is the speed of the CPU that launches. A figure that is stated to scatter less than launches do does
    not wait for them: the host's speed shall not excuse it.
    """
    from perfgate.measure.case import DEVICE_WALL_NOISE

    speeds = next((metric.speeds for metric in fixture.metrics if metric.name == "wall_time"), {})
    least = 0.0 if fixture.device.kind == "cpu" else DEVICE_WALL_NOISE.relative

    def follows(metric: Metric) -> bool:
        return (metric.unit == "s" or metric.unit.endswith("/s")) and metric.noise.relative >= least

    return [replace(metric, speeds=speeds) if follows(metric) else metric for metric in fixture.recorded]


def note_raised(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Remember how a test failed, while the exception is at hand; what its teardown raises afterwards adds nothing."""
    if call.excinfo is None or call.excinfo.errisinstance(pytest.skip.Exception):
        return
    if isinstance(call.excinfo.value, SettingError):
        item.stash.setdefault(_RAISED, (Outcome.FAILED, call.excinfo.value.what))
        return
    text = str(call.excinfo.value).strip().splitlines()
    reason = f"{call.excinfo.typename}: {text[0]}" if text else call.excinfo.typename
    item.stash.setdefault(_RAISED, (outcomes.classify(call.excinfo.value), reason))
