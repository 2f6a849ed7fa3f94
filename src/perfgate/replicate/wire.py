"""What do processes of one run say to each other? Tasks, measurements and verdicts as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from perfgate.model import (
    CaseResult,
    Limit,
    Measurement,
    Metric,
    MetricVerdict,
    Noise,
    Outcome,
    Reported,
    Verdict,
    Work,
)


@dataclass(frozen=True)
class Task:
    """What a fresh process is started for.

    Args:
        cases: node ids to run, in this order, and nothing else.
        events: file that the child appends one JSON object a line to.
        reports: whether the child also hands over pytest's own reports (an isolated case).
        active: whether the gate is on in the run that started it; otherwise the child measures nothing for it.
        profile: folder to write profiles of the cases to, which are then not measured; "" to measure them.
        calibration: extra work that each case is measured again with (:mod:`perfgate.calibrate.steps`); None in any run
            but a calibration.
        parent: id of the process that starts it, without which there is nothing to do; 0 for any.
    """

    cases: tuple[str, ...]
    events: str
    reports: bool = False
    active: bool = True
    profile: str = ""
    calibration: Mapping[str, Any] | None = None
    parent: int = 0

    def save(self, path: Path) -> None:
        """Write the task where the child will look for it."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @staticmethod
    def load(path: str) -> Task:
        """Read the task that this process was started for."""
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        return Task(**{**data, "cases": tuple(data["cases"])})


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """Give the events a child has written so far; a line cut short by its death is left out."""
    if not path.exists():
        return
    for line in path.read_bytes().split(b"\n")[:-1]:
        yield json.loads(line)


def measurement_to_json(measurement: Measurement) -> dict[str, Any]:
    """Turn a measurement into JSON values."""
    return asdict(measurement)


def measurement_from_json(data: Mapping[str, Any]) -> Measurement:
    """Turn what :func:`measurement_to_json` gave back into a measurement."""
    metrics = tuple(
        Metric(**{**metric, "limit": Limit(**metric["limit"]), "noise": Noise(**metric["noise"])})
        for metric in data["metrics"]
    )
    work = Work(**data["work"]) if data["work"] else None
    reported = tuple(Reported(**figure) for figure in data["reported"])
    parts = {"outcome": Outcome(data["outcome"]), "metrics": metrics, "work": work, "reported": reported}
    return Measurement(**{**data, **parts})


def result_to_json(result: CaseResult) -> dict[str, Any]:
    """Turn the result of a case into JSON values."""
    return asdict(result)


def result_from_json(data: Mapping[str, Any]) -> CaseResult:
    """Turn what :func:`result_to_json` gave back into a result."""
    metrics = tuple(map(_metric_verdict, data["metrics"]))
    work = Work(**data["work"]) if data["work"] else None
    reported = tuple(Reported(**figure) for figure in data["reported"])
    fields = {"verdict": Verdict(data["verdict"]), "outcome": Outcome(data["outcome"])}
    lines = tuple(data["kernel_differences"])
    parts = {"metrics": metrics, "work": work, "reported": reported, "kernel_differences": lines}
    return CaseResult(**{**data, **fields, **parts})


def _metric_verdict(data: Mapping[str, Any]) -> MetricVerdict:
    values = {name: tuple(data[name]) for name in ("values", "baseline_values")}
    return MetricVerdict(**{**data, **values, "verdict": Verdict(data["verdict"])})


def with_outcome(measurement: Measurement, outcome: Outcome, reason: str) -> Measurement:
    """Give the measurement of a case that ended otherwise than passed: its figures are not to be used."""
    return replace(measurement, outcome=outcome, reason=reason, metrics=())
