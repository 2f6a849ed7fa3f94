"""What did all processes of a calibration find? Rows of figures by case and metric, and the processes they are from."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from perfgate.calibrate.again import Again
from perfgate.calibrate.samples import Samples
from perfgate.calibrate.steps import NONE
from perfgate.model import Better, Limit, Measurement, Noise, Outcome


@dataclass(frozen=True)
class Row:
    """One figure: of one metric, in one process, with one step.

    Attributes:
        process: its place among the processes of the pool.
        step: which extra work; "" for none.
        value: in the metric's unit.
        speeds: of the machine, around the samples.
        samples: what is kept of them, for the metric that has any.
    """

    process: int
    step: str
    value: float
    speeds: Mapping[str, float] = field(default_factory=dict)
    samples: Samples | None = None


@dataclass(frozen=True)
class Series:
    """All figures of one metric of one case."""

    name: str
    unit: str
    better: Better
    limit: Limit
    noise: Noise
    rows: tuple[Row, ...] = ()

    def of(self, step: str) -> dict[int, Row]:
        """Give the rows of one step by process."""
        return {row.process: row for row in self.rows if row.step == step}

    @property
    def steps(self) -> tuple[str, ...]:
        """Give the steps that there are rows of, without the unchanged code."""
        return tuple(dict.fromkeys(row.step for row in self.rows if row.step != NONE))


@dataclass(frozen=True)
class PooledCase:
    """What is known of one case: how it is measured, and its metrics by name."""

    method: Mapping[str, str]
    series: Mapping[str, Series]

    @property
    def steps(self) -> dict[str, Series]:
        """Give the steps that there are rows of, each with the first metric that has it."""
        found: dict[str, Series] = {}
        for series in self.series.values():
            for step in series.steps:
                found.setdefault(step, series)
        return found


@dataclass(frozen=True)
class Process:
    """One fresh process.

    Attributes:
        began: when, as ISO 8601 in UTC.
        seconds: how long it took.
        commit: what it measured.
        device: the GPU it was given, as ``--devices`` names it; "" for whichever there is.
        steps: the extra work that it was asked for.
    """

    began: str
    seconds: float
    commit: str
    device: str = ""
    steps: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pool:
    """Everything measured on one kind of hardware with one set of software."""

    key: str
    environment: Mapping[str, str]
    processes: tuple[Process, ...] = ()
    cases: Mapping[str, PooledCase] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """What one process measured of one case."""

    measurement: Measurement
    timed: str = ""
    samples: Samples | None = None
    again: Sequence[Again] = ()


def add(pool: Pool, process: Process, found: Sequence[Found]) -> tuple[Pool, list[str]]:
    """Add a process to a pool.

    Args:
        pool: what there is. Its environment is that of the measurements.
        process: where the measurements are from.
        found: cases that passed, on the pool's hardware.

    Returns:
        The new pool, and which cases are left out and why.
    """
    number = len(pool.processes)
    cases = dict(pool.cases)
    problems = []
    for each in found:
        measurement = each.measurement
        if measurement.outcome is not Outcome.PASSED or not measurement.metrics:
            continue
        if not all(math.isfinite(metric.value) for metric in measurement.metrics):
            problems.append(f"{measurement.case}: measured what is no number; left out")
            continue
        case = cases.get(measurement.case, PooledCase(dict(measurement.method), {}))
        if dict(case.method) != dict(measurement.method):
            problems.append(f"{measurement.case}: measured in another way than in the processes before; left out")
            continue
        cases[measurement.case] = replace(case, series={**case.series, **_rows(case, number, each)})
    return replace(pool, processes=(*pool.processes, process), cases=cases), problems


def having(pool: Pool, cases: Collection[str]) -> list[Process]:
    """Give the processes that measured any of some cases."""
    found = {
        row.process
        for name in pool.cases.keys() & set(cases)
        for series in pool.cases[name].series.values()
        for row in series.rows
    }
    return [pool.processes[number] for number in sorted(found)]


def _rows(case: PooledCase, number: int, found: Found) -> dict[str, Series]:
    grown = {}
    for metric in found.measurement.metrics:
        samples = found.samples if metric.name == found.timed else None
        rows = [Row(number, NONE, metric.value, dict(metric.speeds), samples)]
        rows += (
            Row(number, each.step, each.value, dict(each.speeds), each.samples)
            for each in found.again
            if each.metric == metric.name and math.isfinite(each.value)
        )
        known = case.series.get(metric.name)
        before = known.rows if known is not None else ()
        # Limit and noise are those of the code of now, which is what judges.
        grown[metric.name] = Series(
            metric.name, metric.unit, metric.better, metric.limit, metric.noise, (*before, *rows)
        )
    return grown
