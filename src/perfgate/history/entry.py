"""What does the history keep of a run? Its identity, where it ran, and one point for each figure."""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from perfgate.model import CaseResult, MetricVerdict, Outcome, Run

#: Where a run of our own came from.
PERFGATE = "perfgate"
# The year 10000: later times cannot be written.
_LATEST_S = 253_402_300_800.0
# Clocks of two machines may differ by so much.
_CLOCKS_S = 3_600.0


@dataclass(frozen=True)
class Point:
    """One figure of one case.

    Args:
        case: node id, or what a file of others calls it.
        key: hardware key.
        metric: name of the figure.
        unit: base unit.
        better: "lower" or "higher".
        value: the figure.
        low: the least value of a process, where there were several.
        high: the greatest.
        verdict: word of the verdict; empty when nobody judged.
        allowed: the change that the limit allowed, in the unit.
    """

    case: str
    key: str
    metric: str
    unit: str
    value: float
    better: str = "lower"
    low: float | None = None
    high: float | None = None
    verdict: str = ""
    allowed: float | None = None


@dataclass(frozen=True)
class Entry:
    """One run as the history keeps it.

    Args:
        identity: the same for the same run, wherever it comes from.
        source: who measured.
        started_s: seconds since the epoch; 0 when unknown.
        revision: commit; empty when unknown.
        points: its figures.
        host: name of the machine.
        software: versions by name.
        published: figures of others: shown, never judged.
    """

    identity: str
    source: str
    started_s: float
    revision: str
    points: tuple[Point, ...]
    host: str = ""
    software: Mapping[str, str] = field(default_factory=dict)
    published: bool = False


def of_run(run: Run, host: str = "") -> Entry:
    """Give what the history keeps of a run.

    What makes its identity is in the stored run as well: a run that was appended and is imported later is one run.

    Args:
        run: the finished run.
        host: name of the machine, where it is known.

    Raises:
        ValueError: its time of start cannot be read.
    """
    points = tuple(_points(run))
    devices = [device.key for device in run.hardware.devices]
    figures = [(point.case, point.key, point.metric, point.value) for point in points]
    return Entry(
        identity=identity(PERFGATE, run.started, float(run.duration_s), run.commit, devices, figures),
        source=PERFGATE,
        started_s=seconds(run.started),
        revision=run.commit,
        points=points,
        host=host,
        software=dict(run.software),
    )


def identity(*parts: object) -> str:
    """Give the hash of what makes a run the one it is."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def seconds(text: str) -> float:
    """Read a time; one without an offset is UTC.

    Raises:
        ValueError: it is no time of this history.
    """
    time = datetime.datetime.fromisoformat(text)
    found = (time if time.tzinfo else time.replace(tzinfo=datetime.UTC)).timestamp()
    if not 0 <= found < _LATEST_S:
        raise ValueError(f"{text!r} is not between the years 1970 and 9999")
    return found


def latest_s() -> float:
    """Give the latest time that a run can have begun at, in seconds since the epoch: an hour after this clock's now.

    A run with a later date is of a machine with a wrong clock. It would be the last night until its date has come, and
    whatever the true nights bring would be old. So it stays in the history and is shown, and no rule applies to it.
    """
    return time.time() + _CLOCKS_S


def _points(run: Run) -> Iterator[Point]:
    seen = set()
    for result in run.results:
        # What a case that did not finish left behind is no measurement.
        if result.outcome is not Outcome.PASSED:
            continue
        for metric in result.metrics:
            place = (result.case, result.key, metric.name)
            if math.isfinite(metric.value) and place not in seen:
                seen.add(place)
                yield _point(result, metric)


def _point(result: CaseResult, metric: MetricVerdict) -> Point:
    several = [float(value) for value in metric.values if math.isfinite(value)]
    allowed = metric.limit
    if allowed is not None and metric.relative:
        allowed = None if metric.baseline is None else allowed * abs(metric.baseline)
    return Point(
        case=result.case,
        key=result.key,
        metric=metric.name,
        unit=metric.unit,
        # A stored run gives whole numbers back as others: both are one figure, and one identity.
        value=float(metric.value),
        better=metric.better,
        low=min(several) if len(several) > 1 else None,
        high=max(several) if len(several) > 1 else None,
        verdict=metric.verdict.value,
        allowed=allowed if allowed is not None and math.isfinite(allowed) else None,
    )
